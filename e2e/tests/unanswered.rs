//! Backends that close a new connection without an answer: what can be asked of another one is, once.

use kakehi_e2e::Proxy;
use kakehi_e2e::http::{After, Backend, Client};

const ROUNDS: usize = 6;

fn ask(proxy: &Proxy, method: &str) -> u16 {
    let mut client = Client::connect(proxy.address());
    client.send(format!("{method} / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n"));
    client.response(method).status()
}

#[test]
fn a_get_is_sent_to_another_backend_and_a_post_is_not() {
    let (mute, good) = (Backend::raw("", After::Close), Backend::named("good"));
    let proxy = Proxy::builder().workers(1).cluster("a", "a.test", &[mute.address(), good.address()]).start();
    let mut command = proxy.command();
    assert!((0..ROUNDS).all(|_| ask(&proxy, "GET") == 200));
    let again = command.metric("backend.retry.unanswered");
    assert_eq!(i64::try_from(mute.served()), Ok(again));
    assert_ne!(again, 0, "turns are taken");

    let answers: Vec<u16> = (0..ROUNDS).map(|_| ask(&proxy, "POST")).collect();
    assert!(answers.contains(&502) && answers.contains(&200), "{answers:?}");
    assert_eq!(command.metric("backend.retry.unanswered"), again, "it may have been done");
    proxy.stop();
}

#[test]
fn it_is_asked_of_one_other_and_never_of_the_same_again() {
    let mutes = [0, 1, 2].map(|_| Backend::raw("", After::Close));
    let one = Proxy::builder().workers(1).cluster("a", "a.test", &[mutes[0].address()]).start();
    assert_eq!((ask(&one, "GET"), mutes[0].served()), (502, 1));
    one.stop();
    let addresses = mutes.each_ref().map(Backend::address);
    let three = Proxy::builder().workers(1).cluster("a", "a.test", &addresses).start();
    assert_eq!(ask(&three, "GET"), 502);
    assert_eq!(mutes.iter().map(Backend::served).sum::<usize>(), 1 + 2);
    three.stop();
}
