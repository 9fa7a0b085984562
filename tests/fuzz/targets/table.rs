//! The CSV of a decrypted list: what is read as a table can be written in its own dialect, and reads back the same.

#![no_main]

use dropzone::policy::reason::Reason;
use dropzone::policy::table::Table;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok((columns, rows)) = read(bytes) else { return };
    assert!(rows.iter().all(|row| row.len() == columns.len()));
    let dialect = Table::parse(bytes).expect("it was read before").dialect();
    let mut written = dialect.beginning().to_vec();
    dialect.write_header(&mut written, columns.iter().map(|name| name.as_bytes()));
    for row in &rows {
        dialect.write_row(&mut written, row.iter().map(|field| field.as_bytes()));
    }
    assert_eq!(read(&written), Ok((columns, rows)), "written as {:?}", String::from_utf8_lossy(&written));
});

type Rows = Vec<Vec<String>>;

fn read(bytes: &[u8]) -> Result<(Vec<String>, Rows), Reason> {
    let table = Table::parse(bytes)?;
    let (mut rows, mut fields, mut all) = (table.rows(), Vec::new(), Vec::new());
    while rows.read(&mut fields)? {
        all.push(fields.iter().map(|field| field.to_string()).collect());
    }
    Ok((table.columns().to_vec(), all))
}
