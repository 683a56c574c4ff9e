//! Data that comes before the end of the handshake.

use super::*;
use crate::tls::session_table::tests::table;

const EARLY_BYTES_MAX: u32 = 16 * 1024;

fn settings() -> ServerSettings {
    ServerSettings { early_data_bytes_max: EARLY_BYTES_MAX, ..ServerSettings::default() }
}

/// What a client needs to send early data: a ticket of an earlier connection.
fn site() -> (Site, Arc<ClientConfig>) {
    let site = Site::with(&settings());
    site.tls.sessions.set_table(table(64));
    let mut client = Arc::unwrap_or_clone(site.client(&rustls::version::TLS13));
    client.enable_early_data = true;
    let client = Arc::new(client);
    let mut first = Pair::with(&site, client.clone(), usize::MAX, usize::MAX);
    first.run();
    first.server.flush(&mut first.socket);
    first.run();
    assert_eq!(first.facts().early, EarlyData::None);
    (site, client)
}

impl Pair {
    /// A connection whose client has this to say before anything else.
    fn early(site: &Site, client: &Arc<ClientConfig>, step: usize, room: usize, early: &[u8]) -> Self {
        let mut pair = Self::with(site, client.clone(), step, room);
        pair.client.set_buffer_limit(None);
        pair.client.early_data().expect("a ticket").write_all(early).expect("as much as is allowed");
        pair
    }

    fn take_early(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut into = [0; 1000];
        loop {
            match self.server.take_early(&mut into) {
                0 => return all,
                count => all.extend(&into[..count]),
            }
        }
    }

    fn facts(&self) -> &Facts {
        self.server.facts().expect("known by now")
    }

    /// After the handshake both sides have to agree on how many records there were.
    fn speak(&mut self) {
        self.read.clear();
        self.received.clear();
        self.client.writer().write_all(b"and on").expect("no limit");
        self.unwritten.extend(b"and so on");
        self.run();
        assert_eq!((&self.read[..], &self.received[..]), (&b"and on"[..], &b"and so on"[..]));
    }
}

#[test]
fn early_data_is_answered_before_the_handshake_is_over() {
    let (site, client) = site();
    let mut pair = Pair::early(&site, &client, usize::MAX, usize::MAX, b"early");
    pair.turn_client();
    pair.turn_server();
    assert!(pair.server.is_handshaking() && pair.server.has_early() && pair.read.is_empty());
    assert_eq!(pair.take_early(), b"early");
    assert_eq!((pair.facts().early, pair.facts().resumed), (EarlyData::Taken, true));
    assert!(pair.facts().served.is_some(), "whose connection it is is known");
    pair.unwritten.extend(b"answer");
    pair.turn_server();
    assert!(pair.unwritten.is_empty() && pair.server.is_handshaking());
    let sent: Vec<u8> = pair.to_client.borrow_mut().bytes.drain(..).collect();
    let mut sent = &sent[..];
    while !sent.is_empty() {
        pair.client.read_tls(&mut sent).expect("memory");
        pair.client.process_new_packets().expect("our records are sound");
    }
    let mut answer = [0; 6];
    pair.client.reader().read_exact(&mut answer).expect("it is there, and the client has said nothing yet");
    assert_eq!(&answer, b"answer");
    pair.run();
    assert_eq!(pair.server.take_news(), Some(News::Established));
    assert!(pair.client.is_early_data_accepted());
    pair.speak();
    assert_eq!(pair.room.handshakes(), 0);
    pair.room.check_invariants();
}

#[test]
fn who_does_not_ask_gets_it_after_the_handshake() {
    let (site, client) = site();
    let mut pair = Pair::early(&site, &client, usize::MAX, usize::MAX, b"early, ");
    pair.client.writer().write_all(b"late").expect("no limit");
    pair.turn_client();
    pair.turn_server();
    assert!(pair.read.is_empty() && pair.server.has_early() && !pair.server.wants_turn(true));
    pair.run();
    assert_eq!(pair.read, b"early, late");
    assert!(!pair.server.has_early());
    pair.speak();
}

#[test]
fn a_handshake_goes_on_beside_an_answer() {
    let (site, client) = site();
    let mut pair = Pair::early(&site, &client, usize::MAX, usize::MAX, b"early");
    pair.turn_client();
    pair.turn_server();
    pair.client.writer().write_all(b"late").expect("no limit");
    // It takes what there is, and says its last word to that.
    pair.turn_client();
    pair.turn_client();
    pair.socket.note(BOTH);
    assert!(matches!(pair.server.advance(&mut pair.socket), Read::Nothing));
    assert!(!pair.server.is_handshaking(), "and nothing was read");
    assert!(pair.server.has_early() && pair.server.wants_turn(false));
    pair.run();
    assert_eq!(pair.read, b"earlylate");
}

#[test]
fn the_end_of_a_handshake_waits_behind_a_record_that_is_stuck() {
    let (site, client) = site();
    // Room for the hello and no more than the beginning of an answer.
    let mut pair = Pair::early(&site, &client, usize::MAX, 2000, b"early");
    pair.turn_client();
    pair.turn_server();
    let answer = vec![7; 40_000];
    pair.unwritten.extend(&answer);
    pair.turn_server();
    assert!(pair.server.has_begun_write() && pair.server.is_handshaking());
    // The client reads only what makes it finish.
    pair.run();
    assert_eq!(pair.server.take_news(), Some(News::Established));
    assert!(pair.received == answer);
    pair.speak();
    // Tickets were among it: another time is possible.
    Pair::early(&site, &client, usize::MAX, usize::MAX, b"again");
}

#[test]
fn a_farewell_may_come_before_the_end_of_the_handshake() {
    let (site, client) = site();
    let mut pair = Pair::early(&site, &client, usize::MAX, usize::MAX, b"early");
    pair.turn_client();
    pair.turn_server();
    pair.unwritten.extend(b"answer");
    pair.turn_server();
    pair.server.close_notify(&mut pair.socket);
    pair.turn_client();
    assert_eq!(pair.received, b"answer");
    assert!(pair.client.process_new_packets().expect("sound").peer_has_closed());
}

#[test]
fn what_is_played_back_is_not_taken_again() {
    let (site, client) = site();
    let mut pair = Pair::early(&site, &client, usize::MAX, usize::MAX, b"early");
    pair.turn_client();
    let flight: Vec<u8> = pair.to_server.borrow().bytes.iter().copied().collect();
    pair.run();
    assert_eq!(pair.read, b"early");
    for _ in 0..3 {
        let mut replay = Pair::with(&site, client.clone(), usize::MAX, usize::MAX);
        replay.to_server.borrow_mut().bytes.extend(&flight);
        replay.turn_server();
        assert!(!replay.server.has_early());
        assert!(replay.server.is_handshaking(), "which goes on, for one who could end it");
        assert_eq!(replay.ended, None);
        assert!(!replay.to_client.borrow().bytes.is_empty());
        assert!(replay.server.inbound.is_none(), "it is passed over");
    }
}

/// Offers early data to a server that takes none, which must be no worse than not offering it.
fn refused(site: &Site, client: &Arc<ClientConfig>, step: usize, early: &[u8], resumed: bool) {
    let mut pair = Pair::early(site, client, step, usize::MAX, early);
    pair.run();
    assert!(!pair.client.is_early_data_accepted() && pair.read.is_empty() && !pair.server.has_early());
    assert_eq!(pair.server.take_news(), Some(News::Established), "{} bytes by {step}", early.len());
    assert_eq!((pair.facts().early, pair.facts().resumed), (EarlyData::Refused, resumed));
    pair.speak();
    assert_eq!(pair.room.buffers_in_use(), 0);
    pair.room.check_invariants();
}

#[test]
fn a_session_that_is_gone_costs_a_handshake() {
    let (site, client) = site();
    site.tls.ticket_keys.replace(TicketKeys::default().rotate(1_700_000_000, &[8; 48]));
    refused(&site, &client, usize::MAX, b"early", false);
}

#[test]
fn as_much_as_is_allowed_may_be_refused() {
    for step in [usize::MAX, 1, 100] {
        let (site, client) = site();
        site.tls.ticket_keys.replace(TicketKeys::default().rotate(1_700_000_000, &[8; 48]));
        refused(&site, &client, step, &[7; EARLY_BYTES_MAX as usize], false);
    }
}

#[test]
fn what_is_resumed_long_after_the_client_said_so_is_not_fresh() {
    let (site, client) = site();
    site.tls.clock.set(1_700_000_000 + 600);
    refused(&site, &client, usize::MAX, b"early", true);
}

#[test]
fn a_listener_that_takes_none_any_more_passes_it_over() {
    let (mut site, client) = site();
    let off = ServerSettings::default();
    let config = server_config(&off, &site.tls, Arc::default(), Some(site.entry.clone()));
    site.acceptor.config = config.expect("sound");
    refused(&site, &client, usize::MAX, &[7; 10_000], false);
}

#[test]
fn what_came_with_a_hello_that_is_asked_for_again_is_passed_over() {
    let (mut site, client) = site();
    let group = crate::tls::provider::group("P-384").expect("a group");
    let other = ServerSettings { groups: vec![group], ..settings() };
    let config = server_config(&other, &site.tls, Arc::default(), Some(site.entry.clone()));
    site.acceptor.config = config.expect("sound");
    let mut pair = Pair::early(&site, &client, usize::MAX, usize::MAX, &[7; EARLY_BYTES_MAX as usize]);
    pair.run();
    assert_eq!(pair.server.take_news(), Some(News::Established));
    assert!(!pair.client.is_early_data_accepted() && pair.read.is_empty());
    assert_eq!(pair.facts().early, EarlyData::Refused);
    pair.speak();
}

#[test]
fn more_than_is_allowed_ends_the_connection() {
    let (mut site, client) = site();
    let less = ServerSettings { early_data_bytes_max: 100, ..settings() };
    let config = server_config(&less, &site.tls, Arc::default(), Some(site.entry.clone()));
    site.acceptor.config = config.expect("sound");
    // The ticket promised more.
    let mut pair = Pair::early(&site, &client, usize::MAX, usize::MAX, &[7; 101]);
    pair.turn_client();
    pair.turn_server();
    assert_eq!(pair.ended, Some(false));
    assert!(matches!(pair.server.take_news(), Some(News::Failed(_))));
    assert!(!pair.server.has_early(), "nothing of it was taken");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn early_data_and_its_answer_are_whole_however_they_are_cut(
        step in prop_oneof![1..40usize, 1000..70_000usize],
        room in prop_oneof![200..400usize, 1000..70_000usize],
        early in proptest::collection::vec(any::<u8>(), 1..=EARLY_BYTES_MAX as usize),
        up in proptest::collection::vec(any::<u8>(), 0..30_000),
        down in proptest::collection::vec(any::<u8>(), 0..60_000),
        asks in any::<bool>(),
    ) {
        let (site, client) = site();
        let mut pair = Pair::early(&site, &client, step, room, &early);
        pair.client.writer().write_all(&up).expect("no limit");
        let mut taken = Vec::new();
        if asks {
            for _ in 0..3 {
                pair.turn_client();
                pair.turn_server();
                if pair.server.is_handshaking() {
                    taken.extend(pair.take_early());
                }
            }
        }
        pair.unwritten.extend(&down);
        pair.run();
        taken.extend(&pair.read);
        prop_assert!(taken == [&early[..], &up].concat(), "{} of {} and {}", taken.len(), early.len(), up.len());
        prop_assert!(pair.received == down);
        prop_assert_eq!(pair.server.take_news(), Some(News::Established));
        prop_assert!(pair.client.is_early_data_accepted());
        prop_assert_eq!((pair.room.buffers_in_use(), pair.room.handshakes()), (0, 0));
        pair.room.check_invariants();
    }
}
