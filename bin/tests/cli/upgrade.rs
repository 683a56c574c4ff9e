//! `kakehi upgrade` against a canned proxy that goes away in between: whom it asks, and what it tells at the end.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Output;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use kakehi_command::channel::BlockingChannel;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::{Request, Response, RunState, WorkerInfo, WorkerInfos};

use crate::responses as canned;
use crate::support::run;

const WAIT_MAX: Duration = Duration::from_secs(30);

const FRAME_BYTES_MAX: usize = 2_000_000;

fn workers() -> Response {
    let worker = |id, run_state: RunState| WorkerInfo { id, pid: 1, run_state: run_state.into() };
    let vec = vec![
        worker(0, RunState::Running),
        worker(1, RunState::Stopping),
        worker(2, RunState::NotAnswering),
        worker(3, RunState::Stopped),
    ];
    canned::ok_with(ContentType::Workers(WorkerInfos { vec }))
}

fn serve(stream: UnixStream, asked: &Sender<String>, answer: impl Fn(&RequestType) -> Option<Response>) {
    let mut channel = BlockingChannel::<Response, Request>::new(stream, FRAME_BYTES_MAX).unwrap();
    while let Ok(request) = channel.receive_deadline(Some(WAIT_MAX)) {
        let request = request.request_type.unwrap();
        let name = match &request {
            RequestType::UpgradeWorker(id) => format!("worker {id}"),
            RequestType::UpgradeMain(_) => "main".to_owned(),
            RequestType::ListWorkers(_) => "list".to_owned(),
            other => format!("{other:?}"),
        };
        let _unheard = asked.send(name);
        let Some(response) = answer(&request) else { break };
        channel.send_deadline(&response, Some(WAIT_MAX)).unwrap();
    }
}

/// Serves connections by `answer`, where none ends the connection; gives what was asked.
fn upgrade(
    arguments: &[&str],
    answer: impl Fn(&RequestType) -> Option<Response> + Send + Sync + 'static,
) -> (Output, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.toml"), "command_socket = \"kakehi.sock\"\n").unwrap();
    let listener = UnixListener::bind(directory.path().join("kakehi.sock")).unwrap();
    let (asked, all) = mpsc::channel();
    // It ends with the test program.
    thread::spawn(move || {
        let answer = Arc::new(answer);
        while let Ok((stream, _)) = listener.accept() {
            let (asked, answer) = (asked.clone(), Arc::clone(&answer));
            thread::spawn(move || serve(stream, &asked, &*answer));
        }
    });
    let output =
        run("kakehi", Path::new(directory.path()), [&["upgrade", "-c", "config.toml"], arguments].concat());
    let mut asked: Vec<String> = all.try_iter().collect();
    // Workers are asked for at once, in any order.
    asked[2..].sort_unstable();
    (output, asked)
}

#[test]
fn main_and_then_each_worker_that_serves_is_replaced() {
    for arguments in [&[][..], &["--json"]] {
        let (output, asked) = upgrade(arguments, |request| match request {
            RequestType::ListWorkers(_) => Some(workers()),
            _ => Some(canned::ok("replaced")),
        });
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(asked, ["main", "list", "worker 0", "worker 2"]);
        let text = String::from_utf8(output.stdout).unwrap();
        if arguments.is_empty() {
            assert!(text.contains("worker 0: replaced\n") && text.contains("worker 2: replaced\n"), "{text}");
            assert!(
                text.ends_with("Success: upgraded the main process and 2 workers\nNo content\n"),
                "{text}"
            );
        } else {
            assert_eq!(text, "{}\n");
        }
    }
}

/// None is answered before both were asked for: who waits for one before it asks for the next waits for ever.
#[test]
fn workers_are_asked_for_at_once() {
    let both = Arc::new(Barrier::new(2));
    let (output, asked) = upgrade(&[], move |request| match request {
        RequestType::ListWorkers(_) => Some(workers()),
        RequestType::UpgradeWorker(_) => {
            both.wait();
            Some(canned::ok("replaced"))
        }
        _ => Some(canned::ok("replaced")),
    });
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(asked, ["main", "list", "worker 0", "worker 2"]);
}

#[test]
fn each_worker_that_was_not_replaced_is_told_with_its_reason() {
    let (output, asked) = upgrade(&[], |request| match request {
        // Gone before its answer was read: what follows is asked of the successor.
        RequestType::UpgradeMain(_) => None,
        RequestType::ListWorkers(_) => Some(workers()),
        RequestType::UpgradeWorker(0) => Some(canned::failure("the program on disk does not start")),
        RequestType::UpgradeWorker(_) => None,
        _ => Some(canned::ok("?")),
    });
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(asked, ["main", "list", "worker 0", "worker 2"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("2 workers were not replaced"), "{text}");
    assert!(text.contains("\nworker 0: Request failed: the program on disk does not start\n"), "{text}");
    assert!(text.contains("\nworker 2: the conversation with the proxy"), "{text}");
}
