//! The old `scp` protocol, which needs a shell on the other side.

use std::process::Command;

use crate::adapters::{login, ssh_options};
use crate::harness::programs::run;
use crate::harness::{AN, Zone};

#[test]
fn scp_with_the_old_protocol_is_refused_at_once_and_changes_nothing() {
    let zone = Zone::new();
    let content = crate::content::medium(&zone);
    zone.put_here("local.age", &content);
    for options in [&["-O"][..], &["-O", "-p", "-r"], &["-O", "-v"]] {
        let mut scp = Command::new("scp");
        scp.args(options).args(ssh_options(&zone, AN)).arg("-P").arg(zone.ssh().port().to_string());
        scp.arg("local.age").arg(format!("{}:/relay/in/list.age", login(&zone, AN))).current_dir(zone.here());
        let refused = run(&mut scp).must_fail();
        assert!(refused.stderr.contains("exec request failed"), "{}", refused.stderr);
    }
    assert_eq!((zone.accepted(), zone.partials()), (0, Vec::new()));
    zone.upload(AN, "/relay/in/list.age", &content);
    zone.receipt("relay", "list.age", "delivered");
}
