//! Access logs in each form and at each target, and the error log.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use kakehi_command::proto::ProtobufAccessLog;
use kakehi_command::proto::protobuf_endpoint::Inner;
use kakehi_e2e::Proxy;
use kakehi_e2e::deadline::{await_true, await_value};
use kakehi_e2e::http::{Backend, Client, get};
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use prost::Message;
use serde_json::Value;

/// A proxy that logs there, with a cluster on `a.test`.
fn start(settings: &[&str], backend: SocketAddr) -> Proxy {
    let mut builder = Proxy::builder().workers(1);
    for setting in settings {
        builder = builder.setting(setting);
    }
    let frontend = r#"hostname = "a.test", path = "/", tags = { owner = "us" }"#;
    builder.cluster_with("a", "", &[frontend], &[backend]).start()
}

fn target(url: &str) -> String {
    format!("access_logs_target = \"{url}\"")
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The lines of a file, once there are so many.
fn await_lines(path: &Path, count: usize) -> Vec<String> {
    await_value("the records", || Some(lines(path)).filter(|lines| lines.len() >= count))
}

fn file_of(directory: &tempfile::TempDir) -> (std::path::PathBuf, String) {
    let path = directory.path().join("access.log");
    let setting = target(&format!("file://{}", path.display()));
    (path, setting)
}

const JSON: &str = "access_logs_format = \"json\"";

#[test]
fn requests_are_logged_to_a_file_in_json() {
    let directory = tempfile::tempdir().unwrap();
    let (path, setting) = file_of(&directory);
    let backend = Backend::named("one");
    let proxy = start(&[&setting, JSON], backend.address());
    let mut client = Client::connect(proxy.address());
    client.send(
        "GET /x?y=1 HTTP/1.1\r\nHost: a.test\r\nUser-Agent: me \"quoted\"\r\nX-Request-Id: abc\r\n\r\n",
    );
    assert_eq!(client.response("GET").text(), "one");
    assert_eq!(client.get("unknown.test", "/").status(), 404);
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 200);
    let records: Vec<Value> =
        await_lines(&path, 3).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = &records[0];
    for (member, expected) in [
        ("protocol", "HTTP"),
        ("method", "GET"),
        ("host", "a.test"),
        ("path", "/x?y=1"),
        ("cluster", "a"),
        ("user_agent", "me \"quoted\""),
        ("x_request_id", "abc"),
        ("message", "H1::Complete"),
        ("backend_address", &backend.address().to_string()),
        ("listener", &proxy.address().to_string()),
        ("client", &client.local_address().to_string()),
    ] {
        assert_eq!(first[member], expected, "{member} of {first}");
    }
    assert_eq!(first["status"], 200);
    assert_eq!(first["tags"]["owner"], "us");
    assert_eq!(first["worker"], 0);
    assert!(first["bytes_in"].as_u64().unwrap() > 60 && first["bytes_out"].as_u64().unwrap() > 20, "{first}");
    for time in ["request_time_us", "connect_time_us", "service_time_us", "response_time_us", "revision"] {
        assert!(first[time].is_u64(), "{time} of {first}");
    }
    let second = &records[1];
    assert_eq!((&second["status"], &second["host"]), (&Value::from(404), &Value::from("unknown.test")));
    assert!(second["message"].as_str().unwrap().contains("no frontend") && second["cluster"].is_null());
    assert_eq!(first["session_id"], second["session_id"], "one connection");
    assert_ne!(first["session_id"], records[2]["session_id"]);
    assert_ne!(first["request_id"], second["request_id"]);
    assert_eq!(first["session_id"].as_str().unwrap().len(), 26);
    let read =
        proxy.cli().ok(&["logs", "$[?@.status == 404]", path.to_str().unwrap(), "--fields", "host,path"]);
    assert!(read.contains("unknown.test") && !read.contains("a.test\t"), "{read}");
    proxy.stop();
}

#[test]
fn lines_of_text_go_where_the_log_goes_by_default() {
    let backend = Backend::named("one");
    let proxy = start(&[], backend.address());
    assert_eq!(get(proxy.address(), "a.test", "/p").status(), 200);
    let line = await_value("the line", || {
        proxy.stdout().lines().find(|line| line.contains("-ACCESS")).map(str::to_owned)
    });
    assert!(line.contains(" INFO-ACCESS WRK-00\t["), "{line}");
    assert!(line.contains(" a ") && line.contains("[owner=us"), "{line}");
    assert!(line.ends_with(" None HTTP a.test GET /p 200 | H1::Complete"), "{line}");
    proxy.stop();
}

#[test]
fn failures_and_refusals_are_logged_with_their_reasons() {
    let directory = tempfile::tempdir().unwrap();
    let (path, setting) = file_of(&directory);
    let nobody = kakehi_e2e::address::free_address();
    let proxy = start(&[&setting, "request_timeout = 1"], nobody);
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 503);
    let mut bad = Client::connect(proxy.address());
    bad.send("GET /\x01 HTTP/1.1\r\n\r\n");
    assert_eq!(bad.response("GET").status(), 400);
    let mut slow = Client::connect(proxy.address());
    slow.send("GET / HTTP/1.1\r\nHo");
    assert_eq!(slow.response("GET").status(), 408);
    let lines = await_lines(&path, 3);
    assert!(lines[0].contains("ERROR-ACCESS") && lines[0].contains(" a.test GET / 503 | "), "{}", lines[0]);
    assert!(lines[1].contains(" - - - 400 | "), "{}", lines[1]);
    assert!(lines[2].ends_with(" 408 | client_timeout"), "{}", lines[2]);
    proxy.stop();
}

#[test]
fn connections_of_tcp_listeners_are_logged() {
    let directory = tempfile::tempdir().unwrap();
    let (path, setting) = file_of(&directory);
    let backend = Backend::named("one");
    let listener = kakehi_e2e::address::free_address();
    let tables = format!(
        "\n[[listeners]]\nprotocol = \"tcp\"\naddress = \"{listener}\"\n\n[clusters.t]\nprotocol = \"tcp\"\n\
         frontends = [{{ address = \"{listener}\" }}]\nbackends = [{{ address = \"{}\" }}]\n",
        backend.address()
    );
    let proxy = Proxy::builder().workers(1).setting(&setting).setting(JSON).tables(&tables).start();
    let mut client = Client::connect(listener);
    assert_eq!(client.get("any.test", "/").status(), 200);
    drop(client);
    let record: Value = serde_json::from_str(&await_lines(&path, 1)[0]).unwrap();
    assert_eq!((&record["protocol"], &record["cluster"]), (&Value::from("TCP"), &Value::from("t")));
    assert!(
        record["bytes_in"].as_u64().unwrap() > 10 && record["bytes_out"].as_u64().unwrap() > 10,
        "{record}"
    );
    assert!(record["status"].is_null() && record["method"].is_null());
    proxy.stop();
}

#[test]
fn protobuf_goes_out_by_tcp_and_comes_back_after_a_break() {
    let backend = Backend::named("one");
    #[expect(clippy::disallowed_methods, reason = "a collector of logs")]
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = target(&format!("tcp://{}", listener.local_addr().unwrap()));
    let proxy = start(&[&url, "access_logs_format = \"protobuf\""], backend.address());
    for round in 0..2 {
        let path = format!("/{round}");
        let mut stream = None;
        let record = await_value("a record", || {
            assert_eq!(get(proxy.address(), "a.test", &path).status(), 200);
            if stream.is_none() {
                // What was sent into a broken connection is lost: another request makes it connect again.
                let (accepted, _) = listener.accept().ok()?;
                accepted.set_nonblocking(false).unwrap();
                accepted.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
                stream = Some(BufReader::new(accepted));
            }
            let stream = stream.as_mut()?;
            let buffered = stream.fill_buf().unwrap();
            let record = ProtobufAccessLog::decode_length_delimited(buffered).ok()?;
            let Some(Inner::Http(http)) = &record.endpoint.inner else { panic!("an HTTP endpoint") };
            (http.path.as_deref() == Some(&*path)).then_some(record)
        });
        assert_eq!((record.cluster_id.as_deref(), record.tag.as_str()), (Some("a"), "WRK-00"));
        assert_eq!(record.tags.get("owner").map(String::as_str), Some("us"));
        // The connection breaks here.
    }
    proxy.stop();
}

#[test]
fn datagrams_carry_a_record_each() {
    let backend = Backend::named("one");
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let url = target(&format!("udp://{}", udp.local_addr().unwrap()));
    let proxy = start(&[&url, JSON], backend.address());
    let mut datagram = [0; 8192];
    for path in ["/1", "/2"] {
        assert_eq!(get(proxy.address(), "a.test", path).status(), 200);
        let count = udp.recv(&mut datagram).unwrap();
        let record: Value = serde_json::from_slice(&datagram[..count]).unwrap();
        assert_eq!(record["path"], path);
    }
    proxy.stop();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("log");
    let unix = UnixDatagram::bind(&socket).unwrap();
    unix.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let url = format!("unix://{}", socket.display());
    let proxy = start(&[&target(&url), JSON, &format!("log_target = \"{url}\"")], backend.address());
    assert_eq!(get(proxy.address(), "a.test", "/3").status(), 200);
    let mut logged = false;
    let record = await_value("the record, among lines of the log", || {
        let count = unix.recv(&mut datagram).unwrap();
        logged |= String::from_utf8_lossy(&datagram[..count]).contains(" INFO ");
        serde_json::from_slice::<Value>(&datagram[..count]).ok()
    });
    assert_eq!(record["path"], "/3");
    assert!(logged, "the error log goes there, too");
    proxy.stop();
}

#[test]
fn a_reader_that_is_stuck_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let reader = nix::fcntl::open(&fifo, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty()).unwrap();
    let url = format!("file://{}", fifo.display());
    let backend = Backend::named("one");
    let settings = [&*target(&url), JSON, "access_log_buffer = 8192"];
    let proxy = start(&settings, backend.address());
    let mut client = Client::connect(proxy.address());
    // Far more than the pipe and the buffer hold.
    for _ in 0..1_000 {
        assert_eq!(client.get("a.test", "/a-path-of-some-length").status(), 200);
    }
    let metric = |name: &str| proxy.command().metric(name);
    let dropped = metric("access_logs.dropped");
    assert!(dropped > 0, "{dropped}");
    assert_eq!(metric("access_logs.count") + dropped, 1_000);
    // Once somebody reads, it goes on.
    let mut reader = File::from(reader);
    let mut text = String::new();
    await_true("a later record", || {
        assert_eq!(client.get("a.test", "/later").status(), 200);
        let mut bytes = vec![0; 1 << 20];
        if let Ok(count) = reader.read(&mut bytes) {
            text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
        text.contains("/later")
    });
    for line in text.lines().filter(|line| line.starts_with('{')).take(100) {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    drop(reader);
    assert_eq!(client.get("a.test", "/nobody-reads").status(), 200);
    proxy.stop();
}

#[test]
fn files_are_reopened_by_signal_and_by_command() {
    let directory = tempfile::tempdir().unwrap();
    let (path, setting) = file_of(&directory);
    let error_log = directory.path().join("error.log");
    let backend = Backend::named("one");
    let proxy =
        start(&[&setting, &format!("log_target = \"file://{}\"", error_log.display())], backend.address());
    let mut client = Client::connect(proxy.address());
    client.get("a.test", "/1");
    await_lines(&path, 1);
    for (round, by_signal) in [(2, false), (3, true)] {
        let moved = directory.path().join(format!("access.log.{round}"));
        fs::rename(&path, &moved).unwrap();
        fs::rename(&error_log, directory.path().join(format!("error.log.{round}"))).unwrap();
        if by_signal {
            proxy.signal(Signal::SIGUSR1);
            await_true("the new file", || path.exists() && error_log.exists());
        } else {
            proxy.cli().ok(&["reopen-logs"]);
        }
        // By a signal nobody is told when the worker has heard of it.
        await_true("a record in the new file", || {
            client.get("a.test", &format!("/{round}"));
            let found = lines(&path).iter().any(|line| line.contains(&format!("/{round} ")));
            assert!(by_signal || !lines(&moved).iter().any(|line| line.contains(&format!("/{round} "))));
            found
        });
        assert!(fs::read_to_string(&error_log).unwrap().contains("reopened"));
    }
    proxy.stop();
}

#[test]
fn what_is_redacted_or_not_in_the_sample_is_not_logged() {
    let directory = tempfile::tempdir().unwrap();
    let (path, setting) = file_of(&directory);
    let settings = [
        &*setting,
        "access_logs_sampling = 1000000",
        "access_logs_redact = [\"path.query\", \"client\"]",
        JSON,
    ];
    let proxy = start(&settings, kakehi_e2e::address::free_address());
    for _ in 0..50 {
        get(proxy.address(), "unknown.test", "/");
    }
    assert_eq!(get(proxy.address(), "a.test", "/x?secret=1").status(), 503);
    let line = &await_lines(&path, 1)[0];
    assert!(
        line.contains("\"path\":\"/x\"") && !line.contains("secret") && !line.contains("\"client\""),
        "{line}"
    );
    assert_eq!(lines(&path).len(), 1, "errors alone, of so few");
    proxy.stop();
}

#[test]
fn none_is_none() {
    let backend = Backend::named("one");
    let proxy = start(&[&target("none")], backend.address());
    assert_eq!(get(proxy.address(), "a.test", "/").status(), 200);
    assert_eq!(proxy.command().metric("access_logs.count"), 0);
    proxy.stop();
}

/// Whoever makes us complain, as fast as it can, fills no disk and hides nothing but complaints.
#[test]
fn lines_beyond_the_rate_are_counted_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kakehi.log");
    let setting = format!("log_target = \"file://{}\"", path.display());
    let backend = Backend::named("one");
    let settings = [&*setting, "max_log_rate = 10", "access_logs_target = \"none\""];
    let proxy = start(&settings, backend.address());
    let mut command = proxy.command();
    let complain = |count: usize| {
        let mut hostile = proxy.command();
        for _ in 0..count {
            // A field without its value: no request.
            hostile.send_bytes(&[9, 0, 0, 0, 0, 0, 0, 0, 0x0a]).expect("taken");
            hostile.receive_final().expect("an answer to each");
        }
    };
    await_true("lines are lost", || {
        complain(50);
        command.metric("logs.dropped") > 0
    });
    // What comes in another second tells of it.
    await_true("it is told", || {
        complain(1);
        lines(&path).iter().any(|line| line.contains("lines were lost"))
    });
    proxy.stop();
}
