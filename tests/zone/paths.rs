//! Nothing outside the tree can be reached, whatever a path looks like and wherever a link leads.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::harness::{AN, Zone};

const CANARY: &str = "geheim-66060600642";

const HOSTILE: &str = r#"
paths = json.loads(read("paths"))
paths += ["/pillar-3/out/\0", "\0", "/pillar-3/out/result\0.age", "/pillar-3/in/a.csv.age\0/../../x"]
paths += [b"/pillar-3/out/\xff\xfe", b"/pillar-3/out/\xc0\xae\xc0\xae/x", b"/pillar-3/\xe2\x80\xae/x"]
client = sftp()
told = []
for path in paths:
    told.append([repr(path), {
        "stat": outcome(lambda: client.stat(path)),
        "list": outcome(lambda: client.listdir(path)),
        "read": outcome(lambda: client.open(path, "rb").read()),
        "remove": outcome(lambda: client.remove(path)),
        "rename": outcome(lambda: client.rename(path, "/pillar-3/in/a.csv.age")),
        "times": outcome(lambda: client.utime(path, (1, 1))),
    }])
print(json.dumps([told, client.listdir("/")]))
"#;

#[test]
fn no_form_of_a_path_leaves_the_tree() {
    let zone = Zone::new();
    let outside = zone.directory().parent().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), CANARY).unwrap();
    let (secret, outbox) = (outside.join("secret"), zone.folder_of("outbox", "agency", "pillar-3"));
    symlink(&secret, outbox.join("link.age")).unwrap();
    symlink(&outside, outbox.join("folder")).unwrap();
    symlink("../../../../dropzone.yaml", outbox.join("relative.age")).unwrap();
    let absolute = secret.to_str().unwrap();
    let up = "../".repeat(20);
    let paths = [
        absolute.to_owned(),
        format!("/{absolute}"),
        format!("/pillar-3/out/{up}{absolute}"),
        format!("{up}etc/passwd"),
        format!("/pillar-3/out/{up}etc/passwd"),
        format!("/pillar-3/out/.//./{up}etc/passwd"),
        "/etc/passwd".into(),
        "//etc/passwd".into(),
        "/proc/self/environ".into(),
        "~root".into(),
        "~root/.ssh/authorized_keys".into(),
        "~/../../etc/passwd".into(),
        "/pillar-3/out/..%2f..%2f..%2fdropzone.yaml".into(),
        "/pillar-3/out/..\\..\\..\\dropzone.yaml".into(),
        "/pillar-3/out/../../../dropzone.yaml".into(),
        "/pillar-3/receipts/../../../keys/zone.agekey".into(),
        "/pillar-3/../../incoming".into(),
        "/PILLAR-3/out".into(),
        "/pillar-3/outbox".into(),
        "/pillar-3/out/x/../folder/secret".into(),
        "/pillar-3/out/folder/secret".into(),
        "/pillar-3/out/folder".into(),
        "/pillar-3/out/link.age".into(),
        "/pillar-3/out/relative.age".into(),
        "/pillar-3/out/…".into(),
        format!("/pillar-3/out/{}", "a".repeat(256)),
        "/a".repeat(2500),
    ];
    zone.put_here("paths", json!(paths).to_string());
    let Some(ran) = zone.python(AN, HOSTILE) else { return };
    let text = ran.must_succeed().text();
    assert!(!text.contains(CANARY));
    let told: Value = serde_json::from_str(&text).unwrap();
    for line in told[0].as_array().unwrap() {
        for (request, answer) in line[1].as_object().unwrap() {
            assert_eq!(answer[0], "refused", "{request} of {}: {answer}", line[0]);
        }
    }
    assert_eq!(told[1].as_array().unwrap().len(), 4, "the connection went on");
    assert_eq!(fs::read_to_string(secret).unwrap(), CANARY);
    for link in ["link.age", "relative.age", "folder"] {
        assert!(outbox.join(link).is_symlink(), "{link} was touched");
    }
}

#[test]
fn a_link_in_the_outbox_is_neither_listed_nor_read_nor_followed() {
    let zone = Zone::new();
    let outside = zone.directory().parent().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret.age"), CANARY).unwrap();
    let outbox = zone.folder_of("outbox", "agency", "pillar-3");
    fs::write(outbox.join("real.age"), "x").unwrap();
    symlink(outside.join("secret.age"), outbox.join("link.age")).unwrap();
    let listing = zone.sftp(AN, "ls -la /pillar-3/out").must_succeed().text();
    assert!(listing.contains("real.age") && !listing.contains("link"), "{listing}");
    for batch in ["get /pillar-3/out/link.age", "rm /pillar-3/out/link.age", "get -r /pillar-3/out/link.age"]
    {
        zone.sftp(AN, batch).must_fail();
    }
    // The folder itself is a link now.
    let receipts = zone.folder_of("receipts", "agency", "notes");
    fs::remove_dir_all(&receipts).unwrap();
    symlink(&outside, &receipts).unwrap();
    zone.sftp(AN, "ls -1 /notes/receipts/secret.age").must_fail();
    zone.sftp(AN, "get /notes/receipts/secret.age").must_fail();
    assert_eq!(fs::read_to_string(outside.join("secret.age")).unwrap(), CANARY);
    assert!(!zone.here().join("secret.age").exists());
}

#[test]
fn every_form_of_the_root_is_the_root_and_names_are_taken_as_they_are() {
    let zone = Zone::new();
    let batch = "pwd\ncd ..\npwd\ncd /../..\nls -1\ncd pillar-3/./in/../out\npwd\ncd\npwd\n";
    let text = zone.sftp(AN, batch).must_succeed().text();
    assert_eq!(text.matches("Remote working directory: /\n").count(), 3, "{text}");
    assert!(text.contains("Remote working directory: /pillar-3/out\n"), "{text}");
    zone.upload(AN, "/pillar-3/in/../in//Zoë's lijst & co; (2).csv.age", &zone.encrypt("insz\n"));
    let receipt = zone.receipt("pillar-3", "Zoë's lijst & co; (2).csv.age", "delivered");
    let result = receipt["deliveries"][0]["name"].as_str().unwrap();
    assert_eq!(
        zone.decrypt("agency", &zone.download(AN, &format!("/pillar-3/out/{result}"))),
        b"insz,category,registered\n"
    );
}
