//! Whether a query treats the list row by row: each row of the result comes from one row of the list, in its order, and
//! from no other. Then parts of the list can be joined at the same time and their results put one after the other.
//!
//! The proof is SQLite's own program for the query: one scan of `arrival` as the outermost loop, and inside it only
//! instructions that remember nothing from one row to the next. Whatever is not known to be so is taken to be otherwise,
//! which costs time and never correctness.

/// One instruction of a query's program, as EXPLAIN lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Its name.
    pub opcode: String,
    /// First operand; the cursor, where there is one.
    pub p1: i64,
    /// Second operand.
    pub p2: i64,
    /// Third operand; the database of an `OpenRead`.
    pub p3: i64,
    /// Fourth operand, as text.
    pub p4: String,
    /// Flags.
    pub p5: i64,
}

/// Instructions that neither change anything nor remember anything beyond the row at hand. Missing on purpose: sorters,
/// coroutines, aggregates, counters of LIMIT, `Once`, `Compare`, and everything that makes a table.
const HARMLESS: [&str; 64] = [
    "Add",
    "AddImm",
    "Affinity",
    "And",
    "BitAnd",
    "BitNot",
    "BitOr",
    "Blob",
    "Cast",
    "CollSeq",
    "Column",
    "Concat",
    "Copy",
    "CursorHint",
    "DeferredSeek",
    "Divide",
    "ElseEq",
    "Explain",
    "FinishSeek",
    "Ge",
    "Goto",
    "Gt",
    "Halt",
    "IdxGE",
    "IdxGT",
    "IdxLE",
    "IdxLT",
    "IdxRowid",
    "If",
    "IfNot",
    "IfNullRow",
    "Init",
    "Int64",
    "Integer",
    "IsNull",
    "IsTrue",
    "IsType",
    "Le",
    "Lt",
    "Move",
    "Multiply",
    "MustBeInt",
    "Noop",
    "Not",
    "NotNull",
    "Null",
    "NullRow",
    "Or",
    "Real",
    "RealAffinity",
    "Remainder",
    "ReopenIdx",
    "ResultRow",
    "Rowid",
    "SCopy",
    "ShiftLeft",
    "ShiftRight",
    "SoftNull",
    "String",
    "String8",
    "Subtract",
    "Transaction",
    "TypeCheck",
    "ZeroOrNull",
];
/// Instructions that move a cursor: harmless inside the scan of `arrival`.
const MOVES: [&str; 11] = [
    "Next",
    "NotExists",
    "NotFound",
    "Found",
    "NoConflict",
    "Rewind",
    "SeekGE",
    "SeekGT",
    "SeekLE",
    "SeekLT",
    "SeekRowid",
];
/// Functions whose value depends on their arguments alone.
const FUNCTIONS: [&str; 24] = [
    "abs",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "format",
    "glob",
    "hex",
    "ifnull",
    "iif",
    "instr",
    "length",
    "like",
    "lower",
    "ltrim",
    "nullif",
    "printf",
    "replace",
    "round",
    "rtrim",
    "substr",
    "trim",
    "upper",
    "unicode",
];
/// `SQLITE_NULLEQ`: DISTINCT over ordered rows compares with the row before by it.
const NULLS_ARE_EQUAL: i64 = 0x80;

/// Whether this program is one scan of the list that treats it row by row.
pub fn is_row_by_row(program: &[Instruction]) -> bool {
    scan_of_list(program).is_some_and(|(cursor, start, end)| {
        program.iter().enumerate().all(|(at, instruction)| {
            let is_inside = start < at && at < end;
            match instruction.opcode.as_str() {
                "OpenRead" => true,
                // A part counts its rows anew.
                "Rowid" if instruction.p1 == cursor => false,
                "Rewind" | "Next" if instruction.p1 == cursor => at == start || at == end,
                "ResultRow" => is_inside,
                "Eq" | "Ne" => instruction.p5 & NULLS_ARE_EQUAL == 0,
                // With a third operand it counts down, for OFFSET.
                "IfPos" => instruction.p3 == 0 && is_inside,
                "Function" | "PureFunc" => {
                    let name = instruction.p4.split('(').next().unwrap_or_default();
                    FUNCTIONS.contains(&name)
                }
                opcode if MOVES.contains(&opcode) => is_inside && instruction.p1 != cursor,
                opcode => HARMLESS.contains(&opcode),
            }
        })
    })
}

/// The one cursor on the list, and where its scan begins and ends.
fn scan_of_list(program: &[Instruction]) -> Option<(i64, usize, usize)> {
    // Database 0 is the one in memory; page 1 of it is its schema, and `arrival` the only table in it.
    let mut opens =
        program.iter().filter(|instruction| instruction.opcode == "OpenRead" && instruction.p3 == 0);
    let (list, other) = (opens.next()?, opens.next());
    if other.is_some() || list.p2 == 1 {
        return None;
    }
    let place = |opcode: &str| {
        let of_list = |instruction: &Instruction| instruction.opcode == opcode && instruction.p1 == list.p1;
        program.iter().position(of_list)
    };
    let (start, end) = (place("Rewind")?, place("Next")?);
    let is_one_loop = program.get(end)?.p2 == i64::try_from(start).ok()? + 1;
    (is_one_loop && start < end).then_some((list.p1, start, end))
}
