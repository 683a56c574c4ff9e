//! `doc/kakehi_config.py`, which was written from our documentation alone: it makes a running proxy what a file says.

use std::path::Path;
use std::process::{Command, Output};

use kakehi_e2e::address::free_address;
use kakehi_e2e::http::{Backend, get};
use kakehi_e2e::{Proxy, skipped};

fn tool(proxy: &Proxy, file: &Path, more: &[&str]) -> Option<Output> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../doc/kakehi_config.py");
    let run = Command::new("python3").arg(script).args(more).arg(proxy.socket()).arg(file).output();
    run.inspect_err(|error| skipped(&format!("python3 does not run: {error}"))).ok()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_proxy_becomes_what_a_file_says() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let proxy = Proxy::builder().cluster("old", "old.test", &[one.address()]).start();
    let (kept, added) = (proxy.address(), free_address());
    let file = proxy.directory().join("desired.json");
    let write = |clusters: &str| {
        std::fs::write(
            &file,
            format!("{{\"listeners\": [\"{kept}\", \"{added}\"], \"clusters\": {clusters}}}"),
        )
        .expect("our own directory");
    };
    let cluster = |backend: &Backend, host: &str| {
        format!(
            "{{\"frontends\": [{{\"address\": \"{kept}\", \"hostname\": \"{host}\"}}, \
             {{\"address\": \"{added}\", \"hostname\": \"{host}\", \"path\": \"/deep\"}}], \
             \"backends\": [\"{}\"]}}",
            backend.address()
        )
    };
    write(&format!("{{\"app\": {}, \"other\": {}}}", cluster(&one, "app.test"), cluster(&two, "b.test")));

    let Some(planned) = tool(&proxy, &file, &["--dry-run"]) else { return };
    assert!(text(&planned).contains("not sent"), "{}", text(&planned));
    assert_eq!(get(kept, "old.test", "/").text(), "one");

    let before = proxy.command().revision();
    let done = tool(&proxy, &file, &[]).expect("it ran before");
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(proxy.command().revision(), before + 1, "one transaction");
    assert_eq!(get(kept, "old.test", "/").status(), 404);
    assert_eq!(get(kept, "app.test", "/").text(), "one");
    assert_eq!(get(added, "b.test", "/deep").text(), "two");
    assert_eq!(get(added, "b.test", "/").status(), 404);

    let again = tool(&proxy, &file, &[]).expect("it ran before");
    assert!(text(&again).starts_with("no changes"), "{}", text(&again));

    write(&format!("{{\"app\": {}}}", cluster(&two, "app.test")));
    let moved = tool(&proxy, &file, &[]).expect("it ran before");
    assert!(moved.status.success(), "{}", text(&moved));
    assert_eq!(get(kept, "app.test", "/").text(), "two");
    assert_eq!(get(added, "b.test", "/deep").status(), 404);
}

#[test]
fn what_cannot_be_is_refused_whole() {
    let one = Backend::named("one");
    let proxy = Proxy::builder().cluster("old", "old.test", &[one.address()]).start();
    let file = proxy.directory().join("desired.json");
    let clusters = "{\"app\": {\"frontends\": [{\"address\": \"127.0.0.1:1\", \"hostname\": \"a..b\"}], \"backends\": []}}";
    std::fs::write(&file, format!("{{\"listeners\": [], \"clusters\": {clusters}}}"))
        .expect("our own directory");
    let before = proxy.command().revision();
    let Some(refused) = tool(&proxy, &file, &[]) else { return };
    assert!(!refused.status.success() && text(&refused).contains("hostname"), "{}", text(&refused));
    assert_eq!(proxy.command().revision(), before);
    assert_eq!(get(proxy.address(), "old.test", "/").text(), "one");
}
