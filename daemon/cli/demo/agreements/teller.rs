//! How the stories of the agreements look on the terminal. What they tell is theirs.

use std::io::Write;

use comfy_table::Table;

/// Rows of a table that are shown.
const SHOWN: usize = 6;

/// Writes steps, sentences and tables.
pub struct Teller<'a> {
    out: &'a mut dyn Write,
    steps: u8,
}

impl<'a> Teller<'a> {
    /// Nothing was told yet.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, steps: 0 }
    }

    /// A new step, with its number.
    pub fn step(&mut self, title: &str) -> anyhow::Result<()> {
        self.steps = self.steps.saturating_add(1);
        Ok(writeln!(self.out, "\n{}. {title}", self.steps)?)
    }

    /// A line of the step.
    pub fn say(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(writeln!(self.out, "   {text}")?)
    }

    /// A name and what it stands for.
    pub fn fact(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        self.say(&format!("{name:<10} {text}"))
    }

    /// Text that somebody reads in a file.
    pub fn quote(&mut self, text: &str) -> anyhow::Result<()> {
        text.lines().try_for_each(|line| Ok(writeln!(self.out, "      {line}")?))
    }

    /// The first rows of a list, of which these columns.
    pub fn table(&mut self, list: &str, columns: &[&str]) -> anyhow::Result<()> {
        let mut table = Table::new();
        table.set_header(columns.iter().copied());
        let all: Vec<Vec<String>> = columns.iter().map(|name| column(list, name)).collect();
        let rows = all.first().map_or(0, Vec::len);
        for at in 0..rows.min(SHOWN) {
            table.add_row(all.iter().map(|cells| cells.get(at).cloned().unwrap_or_default()));
        }
        self.quote(&table.to_string())?;
        if rows > SHOWN {
            self.say(&format!("   ... and {} rows more", rows - SHOWN))?;
        }
        Ok(())
    }
}

/// The cells of a column of a list; none where it has no such column. The demo's own lists have no comma in a cell.
pub fn column(list: &str, name: &str) -> Vec<String> {
    let mut rows = list.lines().map(|line| line.trim_start_matches('\u{feff}').split(',').map(unquoted));
    let at = rows.next().and_then(|mut header| header.position(|cell| cell == name));
    at.map_or_else(Vec::new, |at| rows.map(|mut row| row.nth(at).unwrap_or_default()).collect())
}

fn unquoted(cell: &str) -> String {
    cell.trim_matches('"').to_owned()
}
