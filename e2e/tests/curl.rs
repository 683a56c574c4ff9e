//! curl as the client, nginx as the backend: that strangers understand us, not only our own harness.

use std::process::Command;

use kakehi_e2e::content::SeededContent;
use kakehi_e2e::http::Backend;
use kakehi_e2e::nginx::Nginx;
use kakehi_e2e::{Proxy, skipped};

/// Runs curl on the proxy, for host `a.test`; gives its output, or `None` if there is no curl.
///
/// # Panics
/// If curl is there and fails.
fn curl(proxy: &Proxy, path: &str, arguments: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail-with-body", "--max-time", "60"])
        .args(["--resolve", &format!("a.test:{}:{}", proxy.address().port(), proxy.address().ip())])
        .args(arguments)
        .arg(format!("http://a.test:{}{path}", proxy.address().port()))
        .env_remove("http_proxy")
        .env_remove("all_proxy")
        .output();
    let Ok(output) = output else {
        skipped("curl is not installed; .ci/run installs it");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {arguments:?}: {} {said}", output.status);
    Some(output.stdout)
}

fn proxy_for(backend: &Backend) -> Proxy {
    Proxy::builder().cluster("a", "a.test", &[backend.address()]).start()
}

#[test]
fn all_ways_to_ask() {
    let backend = Backend::named("hello");
    let proxy = proxy_for(&backend);
    for arguments in [
        &[][..],
        &["--http1.0"],
        &["--request", "POST", "--data", "x=y"],
        &["--header", "Transfer-Encoding: chunked", "--data", "some body"],
        &["--header", "Connection: close"],
        &["--get", "--data-urlencode", "q=a b&c"],
    ] {
        let Some(output) = curl(&proxy, "/", arguments) else { return };
        assert_eq!(String::from_utf8_lossy(&output), "hello", "{arguments:?}");
    }
    let head = curl(&proxy, "/", &["--head"]).expect("curl was there a moment ago");
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
}

#[test]
fn upload_with_expectation_arrives_whole() {
    const LEN: usize = 8 << 20;
    let backend = Backend::large(0, 0);
    let proxy = proxy_for(&backend);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("upload");
    std::fs::write(&file, SeededContent::bytes(21, LEN)).expect("a fresh directory");
    let digest = SeededContent::digest(21, LEN as u64);
    let path = file.display().to_string();
    for arguments in [
        // curl waits for 100 Continue, for a while, before it sends so much.
        &["--include", "--upload-file", &path][..],
        &[
            "--include",
            "--upload-file",
            &path,
            "--header",
            "Expect: 100-continue",
            "--expect100-timeout",
            "30",
        ],
        &["--include", "--upload-file", &path, "--header", "Transfer-Encoding: chunked"],
    ] {
        let Some(output) = curl(&proxy, "/", arguments) else { return };
        let text = String::from_utf8_lossy(&output);
        assert!(text.contains(&digest), "{arguments:?}: {text}");
    }
}

#[test]
fn many_at_once_over_few_connections() {
    let Some(nginx) = Nginx::start("from-nginx") else { return };
    let proxy = Proxy::builder().cluster("a", "a.test", &[nginx.address()]).start();
    let arguments =
        ["--parallel", "--parallel-max", "20", "--output", "/dev/null", "--write-out", "%{http_code}\n"];
    let Some(output) = curl(&proxy, "/[1-500]", &arguments) else { return };
    let codes = String::from_utf8_lossy(&output);
    assert_eq!(codes.lines().filter(|code| *code == "200").count(), 500, "{codes}");
}
