//! Parses the command and runs it; the exit code follows sysexits.

fn main() {}
