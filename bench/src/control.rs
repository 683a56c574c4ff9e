//! Adding and removing a backend at run time, as a controller does it: one connection, one answer
//! awaited after the other.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use kakehi_command::proto;
use kakehi_command::proto::request::RequestType;
use kakehi_command::proto::{IpAddress, Request, Response, ResponseStatus, ip_address};
use prost::Message;

use crate::failure::{Context, Failure};
use crate::peers::{Peer, Running, haproxy, kakehi};

/// Whatever does not answer for this long hangs.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The backend that comes and goes. Nobody listens there: it gets no traffic.
const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);
const CLUSTER: &str = "b0";
const BACKEND: &str = "extra";
/// More than any answer to what is asked here.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// One controller's connection.
pub(crate) enum Controller {
    /// Length-prefixed messages on the command socket.
    Kakehi(UnixStream),
    /// Lines of the runtime API, with a prompt after each answer.
    Haproxy(UnixStream),
}

impl Controller {
    /// Connects to a proxy's socket.
    ///
    /// # Errors
    /// If it has none, or does not answer.
    pub(crate) fn connect(peer: Peer, proxy: &Running) -> Result<Controller, Failure> {
        let open = |name: &str| -> Result<UnixStream, Failure> {
            let path = proxy.path(name);
            let stream = UnixStream::connect(&path).context(path.display())?;
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            Ok(stream)
        };
        match peer {
            Peer::Kakehi => Ok(Controller::Kakehi(open(kakehi::SOCKET)?)),
            Peer::Haproxy => {
                let mut stream = open(haproxy::SOCKET)?;
                ask_haproxy(&mut stream, "prompt")?;
                Ok(Controller::Haproxy(stream))
            }
            _ => Err(Failure::new(format!("{} has no run-time interface", peer.name()))),
        }
    }

    /// Adds the backend, ready for traffic.
    ///
    /// # Errors
    /// If that is refused.
    pub(crate) fn add(&mut self) -> Result<(), Failure> {
        match self {
            Controller::Kakehi(stream) => ask_kakehi(
                stream,
                RequestType::AddBackend(proto::AddBackend {
                    cluster_id: CLUSTER.into(),
                    backend_id: BACKEND.into(),
                    address: wire_address(),
                    ..Default::default()
                }),
            ),
            Controller::Haproxy(stream) => {
                let server = format!("{CLUSTER}/{BACKEND}");
                let answer =
                    ask_haproxy(stream, &format!("add server {server} {ADDRESS}; enable server {server}"))?;
                expect_text(&answer, "New server registered")
            }
        }
    }

    /// Removes it again.
    ///
    /// # Errors
    /// If that is refused.
    pub(crate) fn remove(&mut self) -> Result<(), Failure> {
        match self {
            Controller::Kakehi(stream) => ask_kakehi(
                stream,
                RequestType::RemoveBackend(proto::RemoveBackend {
                    cluster_id: CLUSTER.into(),
                    backend_id: BACKEND.into(),
                    address: wire_address(),
                }),
            ),
            Controller::Haproxy(stream) => {
                let server = format!("{CLUSTER}/{BACKEND}");
                let answer = ask_haproxy(stream, &format!("disable server {server}; del server {server}"))?;
                expect_text(&answer, "Server deleted")
            }
        }
    }
}

fn wire_address() -> proto::SocketAddress {
    proto::SocketAddress {
        ip: IpAddress { inner: Some(ip_address::Inner::V4(u32::from(*ADDRESS.ip()))) },
        port: u32::from(ADDRESS.port()),
    }
}

/// One request and its final answer, which must be OK.
fn ask_kakehi(stream: &mut UnixStream, request: RequestType) -> Result<(), Failure> {
    // The length counts itself.
    const PREFIX: usize = 8;
    let payload = Request { request_type: Some(request) }.encode_to_vec();
    let mut frame = ((payload.len() + PREFIX) as u64).to_le_bytes().to_vec();
    frame.extend_from_slice(&payload);
    stream.write_all(&frame)?;
    loop {
        let mut length = [0; PREFIX];
        stream.read_exact(&mut length).context("an answer's length")?;
        let length = usize::try_from(u64::from_le_bytes(length)).ok();
        let length = length.and_then(|length| length.checked_sub(PREFIX));
        let length = length.filter(|length| *length <= ANSWER_BYTES_MAX).context("an answer too long")?;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).context("an answer")?;
        let response = Response::decode(payload.as_slice()).context("an answer")?;
        match response.status() {
            ResponseStatus::Processing => {}
            ResponseStatus::Ok => return Ok(()),
            ResponseStatus::Failure => return Err(Failure::new(response.message)),
        }
    }
}

/// One line, of one or more commands, and all that is printed up to the last one's prompt.
fn ask_haproxy(stream: &mut UnixStream, line: &str) -> Result<String, Failure> {
    stream.write_all(format!("{line}\n").as_bytes())?;
    let commands = line.split(';').count();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while prompts(&answer) < commands {
        let count = stream.read(&mut buffer).context("an answer")?;
        if count == 0 || answer.len() > ANSWER_BYTES_MAX {
            return Err(Failure::new(format!("no prompt after {line:?}")));
        }
        answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Each command's answer ends with a prompt.
fn prompts(answer: &[u8]) -> usize {
    answer.windows(3).filter(|window| window == b"\n> ").count()
}

fn expect_text(answer: &str, text: &str) -> Result<(), Failure> {
    if answer.contains(text) { Ok(()) } else { Err(Failure::new(format!("HAProxy answered {answer:?}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_counted() {
        assert_eq!(prompts(b"\n> "), 1);
        assert_eq!(prompts(b"New server registered.\n\n> \n> "), 2);
        assert_eq!(prompts(b"New server registered.\n\n>"), 0);
    }
}
