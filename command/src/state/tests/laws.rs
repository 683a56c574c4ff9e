//! The laws of the state, for random orders.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::values::{any_orders, state};
use crate::{
    order::{
        Backend, BackendKey, Certificate, CertificateKey, Cluster, ClusterId, HttpFrontend, HttpListener,
        ListenerKey, Order, RulePosition, TcpFrontend, TcpListener,
    },
    state::{ConfigState, Effect, read_state, write_state},
};

/// What a table derived from effects alone knows.
#[derive(Default)]
struct Mirror {
    clusters: BTreeMap<ClusterId, Arc<Cluster>>,
    backends: BTreeMap<BackendKey, Arc<Backend>>,
    listeners: BTreeMap<ListenerKey, Arc<HttpListener>>,
    certificates: BTreeMap<CertificateKey, Arc<Certificate>>,
    frontends: Vec<Arc<HttpFrontend>>,
    tcp_listeners: BTreeMap<ListenerKey, Arc<TcpListener>>,
    tcp_frontends: Vec<Arc<TcpFrontend>>,
    limits: [u64; 2],
    attempts: Option<u8>,
}

impl Mirror {
    fn follow(&mut self, effect: &Effect) {
        match effect.clone() {
            Effect::ClusterSet(cluster) => {
                self.clusters.insert(cluster.id().clone(), cluster);
            }
            Effect::BackendSet(backend) => {
                self.backends.insert(backend.key(), backend);
            }
            Effect::HttpListenerSet(listener) => {
                self.listeners.insert(listener.key().clone(), listener);
            }
            Effect::ClusterRemoved(id) => assert!(self.clusters.remove(&id).is_some(), "it was there"),
            Effect::BackendRemoved(key) => assert!(self.backends.remove(&key).is_some(), "it was there"),
            Effect::HttpListenerRemoved(key) => {
                assert!(self.listeners.remove(&key).is_some(), "it was there");
            }
            Effect::CertificateSet(certificate) => {
                self.certificates.insert(certificate.key_in_state(), certificate);
            }
            Effect::CertificateRemoved(key) => {
                assert!(self.certificates.remove(&key).is_some(), "it was there");
            }
            Effect::TcpListenerSet(listener) => {
                self.tcp_listeners.insert(listener.key().clone(), listener);
            }
            Effect::TcpListenerRemoved(key) => {
                assert!(self.tcp_listeners.remove(&key).is_some(), "it was there");
            }
            Effect::TcpFrontendAdded(frontend) => self.tcp_frontends.push(frontend),
            Effect::TcpFrontendRemoved(frontend) => {
                let at = self.tcp_frontends.iter().position(|it| *it == frontend).expect("it was there");
                self.tcp_frontends.remove(at);
            }
            Effect::ConnectionLimitSet { limit, value } => {
                assert_ne!(std::mem::replace(&mut self.limits[limit as usize], value), value, "it is news");
            }
            Effect::ConnectionAttemptsSet(value) => {
                assert_ne!(std::mem::replace(&mut self.attempts, value), value, "it is news");
            }
            Effect::HttpFrontendAdded(frontend) => self.frontends.push(frontend),
            Effect::HttpFrontendRemoved(frontend) => {
                let at =
                    self.frontends.iter().position(|present| *present == frontend).expect("it was there");
                self.frontends.remove(at);
            }
        }
    }

    fn list(
        frontends: &[&Arc<HttpFrontend>],
        (https, position, port): (bool, RulePosition, u16),
    ) -> Vec<Arc<HttpFrontend>> {
        let of_list = |it: &&&Arc<HttpFrontend>| {
            (it.is_https(), it.position(), it.address().port()) == (https, position, port)
        };
        let mut list: Vec<_> = frontends.iter().filter(of_list).map(|it| Arc::clone(it)).collect();
        if position == RulePosition::Tree {
            list.sort_by(|one, other| one.identity().cmp(&other.identity()));
        }
        list
    }

    fn check_agrees(&self, state: &ConfigState) {
        assert!(state.clusters().eq(self.clusters.values()));
        assert!(state.http_listeners().eq(self.listeners.values()));
        assert!(state.certificates().eq(self.certificates.values()));
        assert!(state.tcp_listeners().eq(self.tcp_listeners.values()));
        let mut tcp_frontends: Vec<_> = self.tcp_frontends.iter().collect();
        tcp_frontends.sort_by(|one, other| one.identity().cmp(&other.identity()));
        assert!(state.tcp_frontends().eq(tcp_frontends));
        let backends = state.clusters().flat_map(|cluster| state.backends(cluster.id()));
        assert!(backends.eq(self.backends.values()));
        let (ours, theirs): (Vec<_>, Vec<_>) =
            (self.frontends.iter().collect(), state.http_frontends().collect());
        assert_eq!(ours.len(), theirs.len());
        for position in [RulePosition::Pre, RulePosition::Tree, RulePosition::Post] {
            for list in
                [(false, position, 80), (false, position, 81), (true, position, 80), (true, position, 81)]
            {
                assert_eq!(Self::list(&ours, list), Self::list(&theirs, list));
            }
        }
    }
}

fn applied(mut state: ConfigState, orders: &[Order]) -> ConfigState {
    for order in orders {
        state.apply(order).unwrap_or_else(|error| panic!("{order:?}: {error}"));
    }
    state.check_invariants();
    state
}

/// The first half of the orders shuffled, each kind after those that it needs.
fn independent(state: &ConfigState) -> [Vec<Order>; 2] {
    let lone = |order: &Order| match order {
        Order::AddHttpFrontend(frontend) => frontend.position() == RulePosition::Tree,
        _ => true,
    };
    let needs_another =
        |order: &Order| matches!(order, Order::AddBackend(_) | Order::ActivateListener { .. });
    let (second, first) = state.orders().filter(lone).partition(needs_another);
    [first, second]
}

proptest! {
    #[test]
    fn a_refused_order_changes_nothing(orders in any_orders()) {
        let mut state = ConfigState::default();
        for order in &orders {
            let before = state.clone();
            match state.apply(order) {
                Ok(change) => prop_assert_eq!(change.is_empty(), state == before),
                Err(_) => prop_assert_eq!(&state, &before),
            }
            state.check_invariants();
        }
    }

    #[test]
    fn undo_is_the_inverse_of_apply(orders in any_orders()) {
        let mut state = ConfigState::default();
        let mut past = Vec::new();
        for order in &orders {
            let before = state.clone();
            if let Ok(change) = state.apply(order) {
                past.push((before, change));
            }
        }
        for (before, change) in past.into_iter().rev() {
            state.undo(change);
            state.check_invariants();
            prop_assert_eq!(&state, &before);
        }
    }

    #[test]
    fn a_diff_leads_from_one_state_to_the_other(from in any_orders(), to in any_orders()) {
        let (from, to) = (state(&from), state(&to));
        prop_assert_eq!(applied(from.clone(), &from.diff(&to)), to);
    }

    #[test]
    fn a_diff_after_a_few_orders_is_no_longer_than_what_they_did(orders in any_orders(), more in any_orders()) {
        let from = state(&orders);
        let mut to = from.clone();
        let mut effects = 0;
        for order in more.iter().take(3) {
            effects += to.apply(order).map_or(0, |change| change.effects().len());
        }
        let diff = from.diff(&to);
        prop_assert!(from != to || diff.is_empty());
        // Moving a frontend to the end of a list moves none of the others.
        let frontends = |order: &&Order| {
            use Order::{AddHttpFrontend, AddTcpFrontend, RemoveHttpFrontend, RemoveTcpFrontend};
            let of_http = matches!(order, AddHttpFrontend(_) | RemoveHttpFrontend(_));
            of_http || matches!(order, AddTcpFrontend(_) | RemoveTcpFrontend(_))
        };
        prop_assert!(diff.iter().filter(frontends).count() <= effects, "{diff:?}");
        prop_assert_eq!(applied(from, &diff), to);
    }

    #[test]
    fn its_orders_make_an_equal_state(orders in any_orders()) {
        let state = state(&orders);
        prop_assert_eq!(applied(ConfigState::default(), &state.orders().collect::<Vec<_>>()), state);
    }

    #[test]
    fn a_saved_state_loads_as_it_was(orders in any_orders()) {
        let saved = state(&orders);
        let mut file = Vec::new();
        let records = write_state(&saved, &mut file).expect("memory takes it");
        let requests: Result<Vec<_>, _> = read_state(&file[..], 200_000).collect();
        let requests = requests.expect("readable");
        prop_assert_eq!(requests.len(), records);
        let orders: Result<Vec<_>, _> = requests.iter().map(Order::from_request).collect();
        prop_assert_eq!(applied(ConfigState::default(), &orders.expect("valid")), saved);
    }

    #[test]
    fn the_order_of_independent_orders_is_irrelevant(
        (first, shuffled, second, reshuffled) in any_orders().prop_flat_map(|orders| {
            let [first, second] = independent(&state(&orders));
            let shuffled = Just(first.clone()).prop_shuffle();
            let reshuffled = Just(second.clone()).prop_shuffle();
            (Just(first), shuffled, Just(second), reshuffled)
        })
    ) {
        let one = applied(ConfigState::default(), &[first, second].concat());
        let other = applied(ConfigState::default(), &[shuffled, reshuffled].concat());
        prop_assert_eq!(one, other);
    }

    #[test]
    fn a_transaction_is_all_or_nothing(before in any_orders(), orders in any_orders()) {
        let before = state(&before);
        let mut state = before.clone();
        // What a client would get who sends them one by one.
        let mut lone = before.clone();
        let refused: Vec<_> = (0..orders.len()).filter(|index| lone.apply(&orders[*index]).is_err()).collect();
        match state.transact(&orders) {
            Ok(changes) => {
                prop_assert!(refused.is_empty());
                prop_assert_eq!(changes.len(), orders.len());
                prop_assert_eq!(state, lone);
            }
            Err(error) => {
                let named: Vec<_> = error.culprits.iter().map(|culprit| culprit.index).collect();
                prop_assert_eq!(named, refused);
                prop_assert_eq!(&state, &before);
                state.check_invariants();
            }
        }
    }

    #[test]
    fn effects_tell_everything(orders in any_orders()) {
        let mut state = ConfigState::default();
        let mut mirror = Mirror::default();
        for order in &orders {
            if let Ok(change) = state.apply(order) {
                change.effects().iter().for_each(|effect| mirror.follow(effect));
            }
        }
        mirror.check_agrees(&state);
    }

    #[test]
    fn hashes_agree_exactly_when_clusters_do(one in any_orders(), other in any_orders()) {
        let (one, other) = (state(&one), state(&other));
        let (ours, theirs) = (one.cluster_hashes(), other.cluster_hashes());
        prop_assert_eq!(ours.len(), one.counts().clusters);
        for (id, hash) in &ours {
            if let Some(theirs) = theirs.get(id) {
                prop_assert_eq!(hash == theirs, one.query_cluster_by_id(id) == other.query_cluster_by_id(id));
            }
        }
    }
}
