//! Tests of the lines.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[expect(clippy::disallowed_methods, reason = "any instant serves as the first")]
fn now() -> Instant {
    Instant::now()
}

fn clusters() -> Vec<ClusterKey> {
    let mut backends = crate::session::backends::Backends::<crate::net::kernel::KernelStream>::default();
    ["a", "b"].map(|id| backends.hold(&ClusterId::parse(id).expect("an id"))).into()
}

#[test]
fn somebody_looks_while_somebody_waits() {
    let (now, cluster) = (now(), clusters()[0]);
    let mut waiting = Waiting::default();
    assert!(!waiting.is_due(now) && waiting.next_look().is_none());
    let place = waiting.join(cluster, 7, At::Back, None, now);
    assert!(!waiting.is_due(now));
    assert!(waiting.is_due(now + POLL_EVERY));
    assert_eq!(waiting.next_look(), Some(now + 2 * POLL_EVERY));
    assert_eq!(waiting.leave(place).map(|place| place.index), Some(7));
    assert!(waiting.leave(place).is_none(), "a place is left once");
    assert!(waiting.next_look().is_none());
}

#[derive(Debug, Clone)]
enum Act {
    Join {
        cluster: usize,
        front: bool,
    },
    /// The n-th of those that wait, in whatever line.
    Leave(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let join = (0..2_usize, prop::bool::weighted(0.2));
    prop_oneof![
        3 => join.prop_map(|(cluster, front)| Act::Join { cluster, front }),
        2 => (0..20_usize).prop_map(Act::Leave),
    ]
}

proptest! {
    /// Against queues of the standard library.
    #[test]
    fn lines_are_queues(acts in prop::collection::vec(act(), 0..80)) {
        let (now, clusters) = (now(), clusters());
        let mut waiting = Waiting::default();
        let mut model = [VecDeque::new(), VecDeque::new()];
        for (index, act) in acts.into_iter().enumerate() {
            match act {
                Act::Join { cluster, front } => {
                    let at = if front { At::Front } else { At::Back };
                    let place = waiting.join(clusters[cluster], index, at, None, now);
                    let line = &mut model[cluster];
                    if front { line.push_front((index, place)) } else { line.push_back((index, place)) }
                }
                Act::Leave(nth) => {
                    let all = (0..2).flat_map(|line| (0..model[line].len()).map(move |at| (line, at)));
                    if let Some((line, at)) = all.collect::<Vec<_>>().get(nth).copied() {
                        let (index, place) = model[line].remove(at).expect("it is there");
                        prop_assert_eq!(waiting.leave(place).map(|place| place.index), Some(index));
                    }
                }
            }
            waiting.check_invariants();
            for (line, &cluster) in model.iter().zip(&clusters) {
                prop_assert_eq!(waiting.first(cluster), line.front().copied());
                prop_assert_eq!(waiting.count(cluster), line.len());
            }
            prop_assert_eq!(waiting.len(), model[0].len() + model[1].len());
        }
    }
}
