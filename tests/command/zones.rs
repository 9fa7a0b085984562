//! A whole zone with a command in an exchange: from the upload to the result, and what its operator reads where that fails.

use std::fs;

use crate::harness::programs::run;
use crate::harness::{AN, Zone};

/// A zone whose exchange `pillar-3` gives its lists to a program; `{}` in it is a folder outside of the zone.
fn zone(command: &str) -> Zone {
    let zone = Zone::lay_out();
    let file = zone.directory().join("exchanges/pillar-3.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let (before, _) = text.split_once("    job:").unwrap();
    let command = command.replace("{}", &zone.here().display().to_string());
    fs::write(&file, format!("{before}    job:\n      command: {{{command}}}\n    to: [agency]\n")).unwrap();
    zone
}

fn check(zone: &Zone) -> String {
    let checked = run(std::process::Command::new(env!("CARGO_BIN_EXE_dropzone"))
        .arg("--config")
        .arg(zone.directory())
        .arg("check"));
    if checked.succeeded() {
        String::new()
    } else {
        checked.stderr + &String::from_utf8_lossy(&checked.stdout)
    }
}

const TOOL: &str = "import csv, sys\nrows = csv.reader(sys.stdin)\nnext(rows)\nprint('insz,known')\n\
                    for row in rows: print(row[0] + ',yes')\nprint('\\x1b[2Jdone', file=sys.stderr)\n";

#[test]
fn a_list_goes_through_a_program_also_when_dropzone_itself_was_replaced_meanwhile() {
    let mut zone =
        zone("argv: [/usr/bin/python3, \"{}/tool.py\"], reads: [\"{}/tool.py\"], columns: [insz, known]");
    zone.put_here("tool.py", TOOL);
    assert_eq!(check(&zone), "");
    let program = zone.here().join("dropzone");
    fs::copy(env!("CARGO_BIN_EXE_dropzone"), &program).unwrap();
    zone.start_program(&program);
    fs::remove_file(&program).unwrap();
    fs::write(&program, "another file").unwrap();
    zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt("insz;x\r\n85073003328;1\r\n90010112345;2\r\n"));
    let receipt = zone.receipt("pillar-3", "a.csv.age", "delivered");
    assert_eq!((&receipt["job"]["kind"], &receipt["job"]["rows-out"]), (&"command".into(), &2.into()));
    let result = zone.download(AN, &format!("/pillar-3/out/{}", zone.result("agency", "pillar-3")));
    assert_eq!(zone.decrypt("agency", &result), b"insz;known\r\n85073003328;yes\r\n90010112345;yes\r\n");
    let log = zone.program_log();
    assert!(log.contains("[2Jdone") && !log.contains('\u{1b}') && !log.contains("85073003328"), "{log}");
}

#[test]
fn a_program_that_fails_holds_the_list_and_one_that_asks_for_patience_defers_it() {
    for (code, state) in [(1, "hold"), (75, "deferred")] {
        let mut zone = zone(&format!("argv: [/bin/sh, -c, \"echo a; exit {code}\"]"));
        zone.start();
        zone.upload(AN, "/pillar-3/in/a.csv.age", &zone.encrypt("insz\n85073003328\n"));
        zone.wait_for(state, || (zone.arrivals(state).len() == 1).then_some(()));
        assert!(zone.results("agency", "pillar-3").is_empty());
        if code == 1 {
            let receipt = zone.receipt("pillar-3", "a.csv.age", "held");
            assert_eq!(receipt["reason"]["code"], "command-failed");
            let held = zone.spool().join("hold").join(&zone.arrivals("hold")[0]).join("hold.json");
            let held = fs::read_to_string(held).unwrap();
            assert!(held.contains("exit code 1"), "{held}");
        }
    }
}

#[test]
fn the_check_tells_of_a_program_that_is_not_there_and_of_what_no_command_may_read() {
    for (command, said) in [
        ("argv: [/usr/lib/dropzone/absent]", "flows[0].job.command.argv"),
        ("argv: [\"{}/open\"]", "can be written by others"),
        ("argv: [/bin/cat], reads: [\"{}/../zone/keys\"]", "in which lies"),
        ("argv: [/bin/cat], reads: [\"{}/../zone/institutions\"]", "the zone's own folders"),
        ("argv: [/bin/cat], reads: [\"{}/..\"]", "in which lies"),
        ("argv: [/bin/cat], reads: [\"{}/absent\"]", "is not there"),
        ("argv: [/bin/cat], reads: [/]", "in which lies"),
        ("argv: [/bin/cat], reads: [\"{}/../zone/register.db\"]", ""),
    ] {
        let zone = zone(command);
        let open = zone.put_here("open", "#!/bin/sh\n");
        fs::set_permissions(open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let told = check(&zone);
        assert_eq!(told.is_empty(), said.is_empty(), "{command}: {told}");
        assert!(told.contains(said), "{command}: {told}");
    }
}
