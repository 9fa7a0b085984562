//! Clients that spread one upload over several connections: rclone takes any of its pool for each request.

use crate::adapters::openssh_sftp;
use crate::client::{Kind, step};
use crate::content::medium;
use crate::harness::{AN, Zone};

#[test]
fn what_one_connection_published_another_may_still_ask_about_and_set_the_time_of() {
    let zone = Zone::new();
    let content = medium(&zone);
    let path = "/relay/in/list.age";
    zone.upload(AN, path, &content);
    // The slowest of clients: the arrival is done when it asks.
    zone.wait_for("the arrival to be done", || (!zone.arrivals("done").is_empty()).then_some(()));
    let said =
        openssh_sftp::CLIENT.run(&zone, AN, &[step(Kind::Stat, path, ""), step(Kind::Chmod, path, "")]);
    assert!(said.iter().all(|said| said.ok), "{said:#?}");
    assert!(said[0].text.starts_with(&content.len().to_string()), "{said:#?}");
    let listed = zone.sftp(AN, "ls -1 /relay/in").must_succeed().text();
    assert!(!listed.contains("list.age"), "what is done is no longer in progress: {listed}");
}
