use std::io::{Cursor, Write};

use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::*;
use crate::policy::table::Table;

const LIMIT: u64 = 64 << 20;
const MAIN: &str = "http://schemas.openxmlformats.org/spreadsheetml/2006/main";
const RELATED: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";

fn archive(parts: &[(String, String)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    for (name, text) in parts {
        zip.start_file(name.as_str(), options).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The parts of a workbook as Excel writes one, with these sheets: name, state, and what is in `sheetData`.
fn parts(sheets: &[(&str, &str, &str)], shared: &[&str]) -> Vec<(String, String)> {
    let part = |name: &str, text: String| (name.to_owned(), format!("<?xml version=\"1.0\"?>{text}"));
    let mut listed = String::new();
    let mut related = String::new();
    let mut parts = Vec::new();
    for (at, (name, state, data)) in sheets.iter().enumerate() {
        listed += &format!(r#"<sheet name="{name}" sheetId="{at}" state="{state}" r:id="rId{at}"/>"#);
        related += &format!(
            r#"<Relationship Id="rId{at}" Type="{RELATED}/worksheet" Target="worksheets/sheet{at}.xml"/>"#
        );
        let text = format!(r#"<worksheet xmlns="{MAIN}"><sheetData>{data}</sheetData></worksheet>"#);
        parts.push(part(&format!("xl/worksheets/sheet{at}.xml"), text));
    }
    let relations = "http://schemas.openxmlformats.org/package/2006/relationships";
    parts.push(part(
        "_rels/.rels",
        format!(
            r#"<Relationships xmlns="{relations}"><Relationship Id="r" Type="{RELATED}/officeDocument" Target="xl/workbook.xml"/></Relationships>"#
        ),
    ));
    parts.push(part(
        "xl/workbook.xml",
        format!(r#"<workbook xmlns="{MAIN}" xmlns:r="{RELATED}"><sheets>{listed}</sheets></workbook>"#),
    ));
    parts.push(part(
        "xl/_rels/workbook.xml.rels",
        format!(r#"<Relationships xmlns="{relations}">{related}</Relationships>"#),
    ));
    // 1: a date; 2: a duration; 3: text.
    parts.push(part(
        "xl/styles.xml",
        format!(
            r#"<styleSheet xmlns="{MAIN}"><cellXfs count="4"><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="46"/><xf numFmtId="49"/></cellXfs></styleSheet>"#
        ),
    ));
    let strings: String =
        shared.iter().map(|text| format!("<si><t xml:space=\"preserve\">{text}</t></si>")).collect();
    parts.push(part(
        "xl/sharedStrings.xml",
        format!(r#"<sst xmlns="{MAIN}" count="{0}" uniqueCount="{0}">{strings}</sst>"#, shared.len()),
    ));
    parts
}

fn book(data: &str) -> Vec<u8> {
    archive(&parts(&[("lijst", "visible", data)], &["insz", "naam", "actief", ""]))
}

/// The header line of three columns, and a row below it.
fn with_row(cells: &str) -> Vec<u8> {
    book(&format!(
        r#"<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c><c r="C1" t="s"><v>2</v></c></row><row r="2">{cells}</row>"#
    ))
}

/// A workbook of one column, `insz`, and a row below it.
pub(in crate::work) fn book_with_row(cells: &str) -> Vec<u8> {
    book(&format!(r#"<row r="1"><c r="A1" t="s"><v>0</v></c></row><row r="2">{cells}</row>"#))
}

fn meaning(column: &str) -> Meaning {
    match column {
        "insz" => Meaning::Insz,
        "actief" => Meaning::YesNo,
        _ => Meaning::Other,
    }
}

fn text(workbook: &[u8]) -> Result<String, SheetError> {
    let text = to_csv(workbook, meaning, LIMIT, &Stop::default())?;
    Table::parse(&text).unwrap();
    Ok(String::from_utf8(text.to_vec()).unwrap())
}

fn fault(workbook: &[u8]) -> Fault {
    match text(workbook) {
        Err(SheetError::Unreadable(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

fn rows(workbook: &[u8]) -> Vec<Vec<String>> {
    let text = to_csv(workbook, meaning, LIMIT, &Stop::default()).unwrap();
    let table = Table::parse(&text).unwrap();
    let (mut rows, mut fields, mut all) = (table.rows(), Vec::new(), vec![table.columns().to_vec()]);
    while rows.read(&mut fields).unwrap() {
        all.push(fields.iter().map(ToString::to_string).collect());
    }
    all
}

#[test]
fn each_kind_of_cell_becomes_what_its_column_is_to_hold() {
    for (cells, row) in [
        // A national number that lost its zeros, and one that is text.
        (r#"<c r="A2"><v>5073003328</v></c>"#, "05073003328;;"),
        (r#"<c r="A2"><v>85073003328</v></c>"#, "85073003328;;"),
        (r#"<c r="A2"><v>8.5073003328E10</v></c>"#, "85073003328;;"),
        (r#"<c r="A2" t="str"><v>5073003328</v></c>"#, "5073003328;;"),
        (r#"<c r="A2" t="inlineStr"><is><t>85.07.30-033.28</t></is></c>"#, "85.07.30-033.28;;"),
        // Elsewhere a number is a number.
        (r#"<c r="B2"><v>5073003328</v></c>"#, ";5073003328;"),
        (r#"<c r="B2"><v>-0.1</v></c>"#, ";-0.1;"),
        (r#"<c r="B2"><v>-0</v></c>"#, ";0;"),
        (r#"<c r="B2"><v>1e3</v></c>"#, ";1000;"),
        (r#"<c r="B2"><v>999999999999999</v></c>"#, ";999999999999999;"),
        // Dates are days, moments, times, durations.
        (r#"<c r="B2" s="1"><v>45983</v></c>"#, ";2025-11-22;"),
        (r#"<c r="B2" s="1"><v>45983.5</v></c>"#, ";2025-11-22T12:00:00;"),
        (r#"<c r="B2" s="1"><v>0.25</v></c>"#, ";06:00:00;"),
        (r#"<c r="B2" s="2"><v>1.5</v></c>"#, ";36:00:00;"),
        (r#"<c r="B2" s="1"><v>61</v></c>"#, ";1900-03-01;"),
        (r#"<c r="B2" t="d"><v>2025-11-22T00:00:00</v></c>"#, ";2025-11-22;"),
        (r#"<c r="B2" s="3"><v>45983</v></c>"#, ";45983;"),
        // Yes and no, where they are asked for.
        (r#"<c r="C2" t="b"><v>1</v></c>"#, ";;ja"),
        (r#"<c r="C2" t="b"><v>0</v></c>"#, ";;nee"),
        (r#"<c r="B2" t="b"><v>1</v></c>"#, ";true;"),
        // Text stays as it is.
        (
            r#"<c r="B2" t="inlineStr"><is><t xml:space="preserve"> a;"b" </t></is></c>"#,
            ";\" a;\"\"b\"\" \";",
        ),
        (r#"<c r="B2" t="inlineStr"><is><r><t>é&amp;</t></r><r><t>ü_x000D_</t></r></is></c>"#, ";\"é&ü\r\";"),
        (r#"<c r="B2" t="inlineStr"><is><t>=1+1</t></is></c>"#, ";=1+1;"),
        // A formula is its value, also where that is an empty text.
        (r#"<c r="B2"><f>1+1</f><v>2</v></c>"#, ";2;"),
        (r#"<c r="B2" t="str"><f>""</f><v></v></c><c r="C2" t="s"><v>2</v></c>"#, ";;actief"),
        (r#"<c r="B2" t="str"><f t="shared" si="9999999999999" ref="B2:B9">"x"</f><v>x</v></c>"#, ";x;"),
    ] {
        let text = text(&with_row(cells)).unwrap_or_else(|error| panic!("{cells}: {error}"));
        assert_eq!(text, format!("\u{feff}insz;naam;actief\r\n{row}\r\n"), "{cells}");
    }
}

#[test]
fn what_cannot_be_said_exactly_is_refused_with_its_place() {
    let (row, column) = (2, 2);
    for (cells, expected) in [
        (r##"<c r="B2" t="e"><v>#REF!</v></c>"##, Fault::ErrorValue { row, column }),
        (r##"<c r="B2" t="e"><f>A9</f><v>#N/A</v></c>"##, Fault::ErrorValue { row, column }),
        (r#"<c r="B2"><f>1+1</f></c>"#, Fault::Uncomputed { row, column }),
        (r#"<c r="B2"><f>1+1</f><v></v></c>"#, Fault::Uncomputed { row, column }),
        (r#"<c r="B2"><v>1000000000000000</v></c>"#, Fault::Rounded { row, column }),
        (r#"<c r="B2"><v>1e300</v></c>"#, Fault::Rounded { row, column }),
        (r#"<c r="B2"><v>inf</v></c>"#, Fault::Rounded { row, column }),
        (r#"<c r="B2" t="n"><v>nan</v></c>"#, Fault::Rounded { row, column }),
        (r#"<c r="B2" s="1"><v>60</v></c>"#, Fault::NoDate { row, column }),
        (r#"<c r="B2" s="1"><v>-1</v></c>"#, Fault::NoDate { row, column }),
        (r#"<c r="B2" s="1"><v>85073003328</v></c>"#, Fault::NoDate { row, column }),
        (r#"<c r="D2"><v>1</v></c>"#, Fault::BesideColumns { row, column: 4 }),
        (r#"<c r="XFD1048576"><v>1</v></c>"#, Fault::BesideColumns { row: 1_048_576, column: 16_384 }),
        (r#"<c r="B2"><v>1</v></c><c r="B2"><v>2</v></c>"#, Fault::Order(2)),
        (r#"<c r="C2"><v>1</v></c><c r="A2"><v>2</v></c>"#, Fault::Order(2)),
        // A row number that does not fit into 32 bits is no way back to the top.
        (r#"<c r="A4294967298"><v>1</v></c><c r="A1"><v>2</v></c>"#, Fault::Order(1)),
    ] {
        let found = text(&with_row(cells));
        let Err(SheetError::Unreadable(found)) = found else { panic!("{cells}: {found:?}") };
        // With overflow checks on, the reader of workbooks ends at such a row number.
        let is_overflow = cells.contains("4294967298") && found == Fault::NotAWorkbook;
        assert!(found == expected || is_overflow, "{cells}: {found:?}");
    }
}

#[test]
fn no_value_of_a_cell_shows_in_an_error() {
    for cells in [
        r#"<c r="B2" t="canary"><v>canary</v></c>"#,
        r##"<c r="B2" t="e"><v>#canary</v></c>"##,
        r#"<c r="B2" t="b"><v>canary</v></c>"#,
        r#"<c r="B2" t="n"><v>canary</v></c>"#,
        r#"<c r="canary"><v>1</v></c>"#,
        r#"<c r="B2" t="str"><v>&canary;</v></c>"#,
        r#"<c r="B2"><canary/></c>"#,
    ] {
        let error = text(&with_row(cells)).unwrap_err();
        assert!(
            !error.to_string().contains("canary") && !format!("{error:?}").contains("canary"),
            "{cells}: {error:?}"
        );
    }
}

#[test]
fn a_number_that_only_one_of_two_parsers_takes_does_not_end_in_a_panic_that_tells_it() {
    // The reader of workbooks unwraps the second parser's error where the first has failed.
    for number in [
        "+5", "5.", ".5", "+inf", "infinity", "-NaN", "1_0", "e5", "1e", "0x1", "٣", " 5", "5 ", "1e99999",
        "",
    ] {
        let workbook = with_row(&format!(r#"<c r="B2" t="n"><v>{number}</v></c>"#));
        let read = || to_csv(&workbook, meaning, LIMIT, &Stop::default()).map(drop);
        let inspected = inspect::inspect(&workbook, LIMIT, &Stop::default());
        inspected.unwrap();
        let straight =
            std::panic::catch_unwind(|| drop(cells::read(&workbook, &meaning, LIMIT, &Stop::default())));
        assert!(straight.is_ok(), "{number:?}");
        let _ = read();
    }
}

#[test]
fn rows_that_hold_nothing_count_between_others_and_not_behind_them() {
    let header = r#"<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>"#;
    let data = format!(
        r#"{header}<row r="2"><c r="A2" s="3"/></row><row r="4"><c r="B4"><v>1</v></c></row><row r="5"><c r="A5" t="s"><v>3</v></c></row><row r="900000"><c r="XFD900000" s="1"/></row>"#
    );
    let empty = vec![String::new(), String::new()];
    let expected = [
        vec!["insz".to_owned(), "naam".to_owned()],
        empty.clone(),
        empty,
        vec![String::new(), "1".to_owned()],
    ];
    assert_eq!(rows(&book(&data)), expected);
    assert_eq!(rows(&book(header)), [["insz", "naam"]]);
}

#[test]
fn a_list_of_one_column_reads_back_whatever_it_holds() {
    let data = r#"<row r="1"><c r="A1" t="s"><v>0</v></c></row><row r="2"><c r="A2" t="str"><v>a;b</v></c></row><row r="4"><c r="A4" t="str"><v>a,b</v></c></row>"#;
    assert_eq!(rows(&book(data)), [["insz"], ["a;b"], [""], ["a,b"]]);
}

#[test]
fn the_header_line_is_row_one_from_column_a_on_without_a_gap() {
    for (data, expected) in [
        (r#"<row r="2"><c r="A2"><v>1</v></c></row>"#, Fault::Header(1)),
        (r#"<row r="1"><c r="B1"><v>1</v></c></row>"#, Fault::Header(1)),
        (r#"<row r="1"><c r="A1"><v>1</v></c><c r="C1"><v>1</v></c></row>"#, Fault::Header(2)),
    ] {
        assert_eq!(fault(&book(data)), expected, "{data}");
    }
}

#[test]
fn exactly_one_visible_sheet_holds_something() {
    let list = r#"<row r="1"><c r="A1" t="s"><v>0</v></c></row>"#;
    let of = |sheets: &[(&str, &str, &str)]| archive(&parts(sheets, &["insz"]));
    let hidden =
        [("a", "hidden", list), ("b", "visible", ""), ("c", "visible", list), ("d", "veryHidden", list)];
    assert_eq!(rows(&of(&hidden)), [["insz"]]);
    assert_eq!(fault(&of(&[("a", "visible", list), ("b", "visible", list)])), Fault::SeveralSheets(2));
    assert_eq!(fault(&of(&[("a", "visible", ""), ("b", "hidden", list)])), Fault::Empty);
}

#[test]
fn bombs_are_refused_before_they_are_unpacked() {
    let list = r#"<row r="1"><c r="A1" t="s"><v>0</v></c></row>"#;
    let of = |more: &[(&str, String)]| {
        let mut all = parts(&[("a", "visible", list)], &["insz"]);
        for (name, text) in more {
            all.retain(|(there, _)| there != name);
            all.push(((*name).to_owned(), text.clone()));
        }
        archive(&all)
    };
    assert!(text(&of(&[])).is_ok());
    assert_eq!(fault(&of(&[("xl/media/a", "a".repeat(8 << 20))])), Fault::Packed);
    // Each below the ratio's least size, and together more than the limit.
    let many: Vec<(String, String)> =
        (0..200).map(|at| (format!("xl/media/{at}"), "a".repeat(1 << 20))).collect();
    let many: Vec<(&str, String)> = many.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    assert!(matches!(text(&of(&many)), Err(SheetError::TooLarge { .. })));
    let parts: Vec<(String, String)> = (0..1001).map(|at| (format!("xl/{at}.xml"), String::new())).collect();
    let parts: Vec<(&str, String)> = parts.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    assert_eq!(fault(&of(&parts)), Fault::Parts);
    // Room for so many texts would be made at once.
    for count in ["99999999999999", "18446744073709551615", "200000000"] {
        for written in [format!("uniqueCount=\"{count}\""), format!("uniqueCount  =  '{count}'")] {
            let shared = format!(r#"<sst xmlns="{MAIN}" {written}><si><t>insz</t></si></sst>"#);
            assert_eq!(fault(&of(&[("xl/sharedStrings.xml", shared)])), Fault::NotAWorkbook, "{written}");
        }
    }
    // Elements that take much more than they are long.
    let styles = format!(
        "<styleSheet><cellXfs>{}</cellXfs></styleSheet>",
        (0..400_000).map(|at| format!("<xf numFmtId=\"{at}\"/>")).collect::<String>()
    );
    assert!(matches!(text(&of(&[("xl/styles.xml", styles)])), Err(SheetError::TooLarge { .. })));
    // The workbook is not where sheets are, which are not kept.
    let rels = format!(
        r#"<Relationships><Relationship Type="{RELATED}/officeDocument" Target="xl/worksheets/x.xml"/></Relationships>"#
    );
    assert_eq!(fault(&of(&[("_rels/.rels", rels)])), Fault::NotAWorkbook);
}

#[test]
fn one_long_text_is_not_copied_for_every_column_it_names() {
    let cells: String =
        (0..2_000).map(|at| format!(r#"<c r="{}1" t="s"><v>0</v></c>"#, write::column_name(at))).collect();
    let text = "n".repeat(20 << 10);
    let row = format!(r#"<row r="1">{cells}</row>"#);
    let named = archive(&parts(&[("lijst", "visible", row.as_str())], &[text.as_str()]));
    assert_eq!(fault(&named), Fault::Names);
}

#[test]
fn one_part_is_not_read_for_every_sheet_that_names_it() {
    let mut parts = parts(&[("lijst", "visible", r#"<row r="1"/>"#)], &[]);
    let book = parts.iter_mut().find(|(name, _)| name == "xl/workbook.xml").unwrap();
    let sheets: String =
        (0..100_000).map(|at| format!(r#"<sheet name="s{at}" sheetId="{at}" r:id="rId0"/>"#)).collect();
    book.1 = book.1.replace("<sheets>", &format!("<sheets>{sheets}"));
    assert_eq!(fault(&archive(&parts)), Fault::Parts);
}

#[test]
fn a_number_that_lies_where_two_pieces_meet_is_seen() {
    for before in (256 << 10) - 80..(256 << 10) + 10 {
        let mut part = vec![b' '; before];
        part.extend_from_slice(b"<sst uniqueCount=\"99999999999999\">");
        let size = part.len() as u64;
        let seen = inspect::look_through(&mut part.as_slice(), size, &Stop::default()).unwrap();
        assert!(seen.counts_too_many, "{before}");
        let mut part = vec![b' '; before];
        part.extend_from_slice(b"<!DOCTYPE");
        let size = part.len() as u64;
        assert!(inspect::look_through(&mut part.as_slice(), size, &Stop::default()).is_err(), "{before}");
    }
}

#[test]
fn what_is_no_plain_workbook_is_refused() {
    let list = r#"<row r="1"><c r="A1" t="s"><v>0</v></c></row>"#;
    let with = |name: &str, text: &str| {
        let mut all = parts(&[("a", "visible", list)], &["insz"]);
        all.retain(|(there, _)| there != name);
        all.push((name.to_owned(), text.to_owned()));
        archive(&all)
    };
    let entities = r#"<!DOCTYPE x [<!ENTITY a "aaaa">]><sst><si><t>&a;</t></si></sst>"#;
    assert_eq!(fault(&with("xl/sharedStrings.xml", entities)), Fault::Entities);
    assert_eq!(fault(&with("xl/externalLinks/externalLink1.xml", "<x/>")), Fault::ExternalLinks);
    assert_eq!(fault(&with("XL\\externalLinks\\externalLink1.xml", "<x/>")), Fault::ExternalLinks);
    assert_eq!(fault(b"PK\x03\x04 and no archive"), Fault::NotAWorkbook);
    assert_eq!(fault(&archive(&[("a.txt".into(), "insz".into())])), Fault::NotAWorkbook);
    assert_eq!(fault(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 a password"), Fault::ProtectedOrOld);
    let whole = book(list);
    for cut in (4..whole.len()).step_by(7) {
        fault(&whole[..cut]);
    }
}

#[test]
fn the_text_stays_below_the_limit_and_the_job_can_be_stopped() {
    let rows: String =
        (2..60_000).map(|row| format!(r#"<row r="{row}"><c r="A{row}"><v>{row}</v></c></row>"#)).collect();
    let workbook = book(&format!(r#"<row r="1"><c r="A1" t="s"><v>0</v></c></row>{rows}"#));
    let needed = |limit| to_csv(&workbook, meaning, limit, &Stop::default());
    assert!(needed(LIMIT).is_ok());
    for limit in [0, 1 << 10, 100 << 10, 500 << 10] {
        assert!(matches!(needed(limit), Err(SheetError::TooLarge { .. })), "{limit}");
    }
    // A sheet that says little may become a long text.
    let sparse = with_row(r#"</row><row r="1048576"><c r="C1048576"><v>1</v></c>"#);
    let few = to_csv(&sparse, meaning, 1 << 20, &Stop::default());
    assert!(matches!(few, Err(SheetError::TooLarge { .. })));
    let stopped = Stop::after(&std::sync::Arc::new(true.into()), std::time::Duration::from_secs(60));
    assert!(matches!(to_csv(&workbook, meaning, LIMIT, &stopped), Err(SheetError::Interrupted(_))));
}

fn written(columns: &[&str], rows: &[Vec<String>]) -> Vec<u8> {
    let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
    let mut workbook = Workbook::begin(Vec::new(), &columns).unwrap();
    for row in rows {
        workbook.row(row.iter().map(String::as_str)).unwrap();
    }
    workbook.finish().unwrap()
}

#[test]
fn what_is_written_is_text_and_no_formula() {
    let row = ["05073003328", "=1+1", "2025-11-22"].map(str::to_owned).to_vec();
    let workbook = written(&["insz", "naam", "born"], std::slice::from_ref(&row));
    let mut book: calamine::Xlsx<_> = calamine::Reader::new(Cursor::new(&workbook)).unwrap();
    let mut cells = book.worksheet_cells_reader("lijst").unwrap();
    let mut found = Vec::new();
    while let Some(cell) = cells.next_cell_with_formula_metadata().unwrap() {
        assert!(cell.formula.is_none());
        let calamine::DataRef::String(text) = cell.value else { panic!("{:?}", cell.value) };
        found.push(text);
    }
    assert_eq!(found, ["insz", "naam", "born", "05073003328", "=1+1", "2025-11-22"]);
    // What spreadsheets would read as another letter is none.
    let row = ["_x0041_", "a_x005F_", "_x41_"].map(str::to_owned).to_vec();
    assert_eq!(rows(&written(&["insz", "naam", "born"], std::slice::from_ref(&row))).pop(), Some(row));
    // The same twice is the same workbook.
    let row = ["05073003328", "=1+1", "2025-11-22"].map(str::to_owned).to_vec();
    assert_eq!(written(&["insz", "naam", "born"], &[row]), workbook);
}

#[test]
fn what_does_not_fit_into_a_sheet_is_refused() {
    let columns = |count: usize| (0..count).map(|at| format!("c{at}")).collect::<Vec<_>>();
    assert!(matches!(Workbook::begin(Vec::new(), &columns(16_385)), Err(SheetError::Unfit(Unfit::Columns))));
    let mut workbook = Workbook::begin(std::io::sink(), &columns(2)).unwrap();
    workbook.row(["é".repeat(32_767).as_str(), ""]).unwrap();
    let too_long = workbook.row(["", "é".repeat(32_768).as_str()]);
    assert!(matches!(too_long, Err(SheetError::Unfit(Unfit::Text { row: 3, column: 2 }))), "{too_long:?}");
    let mut workbook = Workbook::begin(std::io::sink(), &columns(1)).unwrap();
    for _ in 0..1_048_575 {
        workbook.row(["1"]).unwrap();
    }
    assert!(matches!(workbook.row(["1"]), Err(SheetError::Unfit(Unfit::Rows))));
}

#[test]
fn columns_are_named_as_spreadsheets_name_them() {
    for (at, name) in [(0, "A"), (25, "Z"), (26, "AA"), (701, "ZZ"), (702, "AAA"), (16_383, "XFD")] {
        assert_eq!(write::column_name(at), name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_written_reads_back(
        rows in prop::collection::vec(prop::collection::vec("[a-z<>&\"'=_x0-9A-F;,\t\n\r \u{1}\u{1f}\u{fffe}é💡]{0,12}", 3), 0..6),
        last in "[a-z]{1,4}",
    ) {
        let mut rows = rows;
        // Rows at the end that hold nothing are none.
        rows.push(vec![last, String::new(), String::new()]);
        let workbook = written(&["insz", "naam", "actief"], &rows);
        let text = to_csv(&workbook, meaning, LIMIT, &Stop::default()).unwrap();
        let table = Table::parse(&text).unwrap();
        let (mut reader, mut fields, mut found) = (table.rows(), Vec::new(), Vec::new());
        while reader.read(&mut fields).unwrap() {
            found.push(fields.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
        prop_assert_eq!(found, rows);
    }

    #[test]
    fn a_damaged_workbook_is_read_or_refused(at in 0_usize..4_000, byte: u8) {
        let mut workbook = with_row(r#"<c r="A2"><v>85073003328</v></c><c r="B2" t="str"><v>x</v></c>"#);
        let place = at % workbook.len();
        workbook[place] = byte;
        let _ = to_csv(&workbook, meaning, LIMIT, &Stop::default());
    }
}
