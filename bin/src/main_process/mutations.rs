//! Changes: validated against main's state, given their listening sockets, then sent to every worker.
//!
//! The order of things is what makes a change atomic. First the state: a refusal leaves no trace. Then
//! the sockets: a port that cannot be had takes the change to the state back. Only then does any worker
//! hear of it, as one revision; and the client hears OK when the last worker has applied it. A worker
//! that cannot apply what was accepted here is replaced by one that boots with it, and the answer says
//! so.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;

use kakehi_command::config::fingerprint;
use kakehi_command::order::{ClusterId, HealthCheck, ListenerKey, Order, OrderError, check_header_values};
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::supervision::ProbeSecret;
use kakehi_command::proto::{
    Event, EventKind, Response, ResponseContent, ResponseStatus, RevisionInfo, SetProtectedHealthCheck,
};
use kakehi_command::state::{Change, ConfigState, Effect};

use super::clients::{ClientId, failure};
use super::dangling;
use super::drains::{Leaver, Step, steps_of};
use super::feed::Feed;
use super::files::{Finding, Finished, Job, Prepared, Snapshot, Source};
use super::gather::Gather;
use super::sockets::{BindError, ListenSockets, Opened};
use super::summary::difference;
use super::supervisor::{Supervisor, event};
use super::tasks::{Apply, Done, Task, Work};
use super::vetting::vet;
use super::watch::send_sockets;
use super::workers::Phase;

/// Notes that are written out in an answer; the rest are counted.
const NOTES_MAX: usize = 8;

/// What a change means for the listening sockets.
#[derive(Debug, Default, PartialEq, Eq)]
struct SocketPlan {
    /// What was done to open them, to be undone if a later one fails.
    opened: Vec<(ListenerKey, Opened)>,
    /// Listeners whose sockets workers have to be sent.
    send: Vec<ListenerKey>,
    /// Listeners that are inactive or gone after the change.
    close: Vec<ListenerKey>,
}

impl Supervisor {
    /// One change.
    pub(super) fn change(&mut self, client: ClientId, verb: &'static str, order: Order) {
        let mut notes = order.notes();
        if let Err(error) = vet(&order, self.settings.unix_sockets, &mut notes) {
            let text = format!("could not apply request on the main process state: {error}");
            return self.refuse(client, verb, text);
        }
        let mut done = Done {
            message: "Successfully applied request to all workers".to_owned(),
            notes,
            content: None,
            events: event_of(&order).into_iter().collect(),
        };
        let change = match self.configuration.state.apply(&order) {
            Ok(change) => change,
            Err(error) => {
                let text = format!("could not apply request on the main process state: {error}");
                return self.refuse(client, verb, text);
            }
        };
        let state = &mut self.configuration.state;
        match self.soundness.check_or_undo(state, vec![change]) {
            Ok(changes) => {
                let orders: Rc<[Order]> = Rc::new([order]);
                done.notes.extend(dangling::notes(state, &orders));
                self.commit(client, verb, &orders, changes, done);
            }
            Err(error) => self.refuse(client, verb, format!("nothing has changed: {error}")),
        }
    }

    /// A health check with secret headers: the check goes into the state with the fingerprints of their values, the
    /// values go to the workers.
    pub(super) fn change_protected(
        &mut self,
        client: ClientId,
        verb: &'static str,
        mut wire: SetProtectedHealthCheck,
    ) {
        match protect(&mut wire) {
            Ok((order, secrets)) => {
                self.health.offer_secrets(secrets);
                self.change(client, verb, order);
                self.health.offer_secrets(Vec::new());
            }
            Err(text) => {
                self.refuse(
                    client,
                    verb,
                    format!("could not apply request on the main process state: {text}"),
                );
            }
        }
    }

    /// Several changes, all or none.
    pub(super) fn transaction(
        &mut self,
        client: ClientId,
        verb: &'static str,
        orders: Vec<Order>,
        if_revision: Option<u64>,
    ) {
        let revision = self.configuration.revision;
        if let Some(expected) = if_revision.filter(|expected| *expected != revision) {
            let text = format!(
                "transaction refused, nothing has changed: the state is at revision {revision}, not at {expected}"
            );
            return self.refuse(client, verb, text);
        }
        if orders.is_empty() {
            let response = ok("An empty transaction changes nothing", Some(revision_info(revision)));
            return self.clients.answer(client, &response, self.now);
        }
        let mut notes = notes_of(&orders);
        for (index, order) in orders.iter().enumerate() {
            if let Err(reason) = vet(order, self.settings.unix_sockets, &mut notes) {
                let verb_of_order = order.verb();
                let text = format!(
                    "transaction refused, nothing has changed: order {index} ({verb_of_order}): {reason}"
                );
                return self.refuse(client, verb, text);
            }
        }
        let changes = match self.configuration.state.transact(&orders) {
            Ok(changes) => changes,
            Err(error) => {
                let text = format!("transaction refused, nothing has changed: {error}");
                return self.refuse(client, verb, text);
            }
        };
        let changes = match self.soundness.check_or_undo(&mut self.configuration.state, changes) {
            Ok(changes) => changes,
            Err(error) => {
                let text = format!("transaction refused, nothing has changed: {error}");
                return self.refuse(client, verb, text);
            }
        };
        notes.extend(dangling::notes(&self.configuration.state, &orders));
        let done = Done {
            message: format!("Successfully applied {} orders to all workers", orders.len()),
            notes,
            content: Some(revision_info(revision + 1)),
            events: orders.iter().filter_map(event_of).collect(),
        };
        self.commit(client, verb, &orders.into(), changes, done);
    }

    /// The file thread has news.
    pub(super) fn take_files(&mut self) {
        while let Some(Finished { task, result }) = self.files.next_finished() {
            let Some(Task { client, verb, .. }) = self.tasks.take(task) else { continue };
            match result {
                Ok(Finding::Saved(records)) => {
                    self.publish("main", event(EventKind::StateSaved));
                    let response = ok(format!("Saved {records} records"), None);
                    self.clients.answer(client, &response, self.now);
                }
                Ok(Finding::Loaded(prepared)) => self.loaded(client, verb, prepared),
                Ok(Finding::Reloaded(prepared)) => self.reloaded(client, verb, prepared),
                Err(text) => self.refuse(client, verb, text),
            }
        }
    }

    pub(super) fn save_state(&mut self, client: ClientId, verb: &'static str, path: PathBuf) {
        let job = Job::Save { path, state: self.configuration.state.clone() };
        self.submit(client, verb, job, "Saving the state...");
    }

    pub(super) fn load_state(&mut self, client: ClientId, verb: &'static str, path: PathBuf) {
        let text = format!("Parsing state file from {}...", path.display());
        let record_bytes_max = self.settings.frame_bytes_max;
        let job = Job::Load { path, base: self.snapshot(), record_bytes_max };
        self.submit(client, verb, job, &text);
    }

    pub(super) fn reload(&mut self, client: ClientId, verb: &'static str, path: Option<PathBuf>) {
        let source = path.map_or_else(|| self.settings.source.clone(), Source::File);
        let text = match &source {
            Source::File(path) => format!("Reloading static configuration at path {}...", path.display()),
            Source::Orders(_) => "Reloading the embedded configuration...".to_owned(),
        };
        let job = Job::Reload { source, base: self.snapshot() };
        self.submit(client, verb, job, &text);
    }

    /// The answer to a change that waits for no worker any more.
    pub(super) fn finish_apply(&mut self, apply: Apply) -> Response {
        let Apply { revision, gather, done } = apply;
        let Done { mut message, notes, content, events } = done;
        log::debug!("revision {revision} is served by {} workers", gather.answers().len());
        if gather.answers().is_empty() && gather.lost().is_empty() {
            message.push_str("; no worker runs right now, the next one starts with it");
        }
        for (worker, lost) in gather.lost() {
            message.push_str(&format!("; worker {worker} {lost} and is replaced"));
        }
        append_notes(&mut message, &notes);
        for event in events {
            self.publish("main", event);
        }
        ok(message, content)
    }

    fn submit(&mut self, client: ClientId, verb: &'static str, job: Job, text: &str) {
        self.clients.processing(client, text.to_owned(), self.now);
        let task = self.add_task(client, verb, None, Work::Files);
        if !self.files.submit(task, job) {
            self.tasks.take(task);
            self.refuse(client, verb, "the thread that works on files has died".to_owned());
        }
    }

    fn loaded(&mut self, client: ClientId, verb: &'static str, prepared: Prepared) {
        let Prepared { base, state, mut orders, mut refused, .. } = prepared;
        if base == self.configuration.revision {
            let done = done_loading(orders.len(), refused);
            return self.adopt(client, verb, state, orders, done);
        }
        // The state has moved on while the file was read: what fits now may be less.
        let mut moved = self.configuration.state.clone();
        orders.retain(|order| {
            let fits = moved.apply(order).is_ok();
            refused += usize::from(!fits);
            fits
        });
        let done = done_loading(orders.len(), refused);
        self.adopt(client, verb, moved, orders, done);
    }

    fn reloaded(&mut self, client: ClientId, verb: &'static str, prepared: Prepared) {
        let Prepared { base, state: target, mut orders, mut notes, probe_secrets, .. } = prepared;
        if base != self.configuration.revision {
            orders = self.configuration.state.diff(&target);
        }
        notes.extend(notes_of(&orders));
        let done = Done {
            message: match orders.len() {
                0 => "The configuration is what is served already: nothing changes".to_owned(),
                _ => {
                    let difference = difference(&self.configuration.state, &orders);
                    format!("Successfully reloaded the configuration: {difference}")
                }
            },
            notes,
            content: None,
            events: vec![event(EventKind::ConfigurationReloaded)],
        };
        self.health.offer_secrets(probe_secrets);
        self.adopt(client, verb, target, orders, done);
        self.health.offer_secrets(Vec::new());
    }

    /// Puts a state that was worked out elsewhere in the place of the present one.
    fn adopt(
        &mut self,
        client: ClientId,
        verb: &'static str,
        state: ConfigState,
        orders: Vec<Order>,
        done: Done,
    ) {
        if self.stopping.is_some() {
            return self.refuse(client, verb, "the proxy is stopping: nothing changes any more".to_owned());
        }
        if orders.is_empty() {
            let Done { mut message, notes, content, .. } = done;
            append_notes(&mut message, &notes);
            return self.clients.answer(client, &ok(message, content), self.now);
        }
        let touched = listeners_that_differ(&self.configuration.state, &state);
        match plan_sockets(&mut self.sockets, &state, &touched, &orders) {
            Ok(plan) => {
                let steps = steps_of_orders(&self.configuration.state, &orders);
                self.configuration.state = state;
                self.send_out(client, verb, &orders.into(), &plan, steps, done);
            }
            Err(error) => self.refuse(client, verb, format!("nothing has changed: {error}")),
        }
    }

    /// Goes on with a change that the state has accepted: sockets, then workers.
    fn commit(
        &mut self,
        client: ClientId,
        verb: &'static str,
        orders: &Rc<[Order]>,
        changes: Vec<Change>,
        done: Done,
    ) {
        let touched = changes.iter().flat_map(Change::effects).filter_map(listener_of).collect();
        match plan_sockets(&mut self.sockets, &self.configuration.state, &touched, orders) {
            Ok(plan) => self.send_out(client, verb, orders, &plan, steps_of(&changes), done),
            Err(error) => {
                for change in changes.into_iter().rev() {
                    self.configuration.state.undo(change);
                }
                self.refuse(client, verb, format!("nothing has changed: {error}"));
            }
        }
    }

    /// The change is certain now: it gets its revision and goes to every worker.
    fn send_out(
        &mut self,
        client: ClientId,
        verb: &'static str,
        orders: &Rc<[Order]>,
        plan: &SocketPlan,
        mut steps: Vec<Step>,
        done: Done,
    ) {
        self.configuration.revision += 1;
        self.configuration.last_verb = verb;
        orders.iter().for_each(|order| self.changes.count_order(order));
        let revision = self.configuration.revision;
        self.audit.accepted(client, revision);
        self.note_for_will();
        self.send_offered_secrets();
        for worker in self.fleet.workers_mut() {
            // Who retires takes nothing new.
            if worker.phase() != Phase::Stopping {
                send_sockets(worker, &self.sockets, &plan.send);
            }
            worker.feed(Feed::new(Rc::clone(orders), revision));
        }
        for key in &plan.close {
            self.sockets.let_go(key, revision);
            let removed = !self.configuration.state.has_listener(key);
            steps.push(Step::Leaves(Leaver::Listener(key.clone()), removed));
        }
        self.drains.begin(steps, revision, &self.fleet.ids(), self.now);
        self.sockets.close_applied(self.fleet.applied_by_all());
        log::debug!("{verb} of client {client}: accepted as revision {revision}, {} orders", orders.len());
        self.clients.processing(client, "Processing worker request...".to_owned(), self.now);
        let gather = Gather::new(self.fleet.ids());
        let patience = self.patience(orders.len());
        self.add_task(client, verb, Some(patience), Work::Apply(Apply { revision, gather, done }));
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            state: self.configuration.state.clone(),
            revision: self.configuration.revision,
            unix_sockets: self.settings.unix_sockets,
            buffer_bytes: self.settings.buffer_bytes(),
        }
    }

    fn refuse(&mut self, client: ClientId, verb: &'static str, text: String) {
        log::info!("client {client}: {verb} refused: {text}");
        self.clients.answer(client, &failure(text), self.now);
    }
}

/// What orders mean for those that leave, applied to the state from before them.
fn steps_of_orders(before: &ConfigState, orders: &[Order]) -> Vec<Step> {
    let matters = |order: &Order| {
        matches!(order, Order::RemoveBackend(_) | Order::RemoveCluster(_) | Order::AddBackend(_))
            || matches!(order, Order::ActivateListener { .. })
    };
    if !orders.iter().any(matters) {
        return Vec::new();
    }
    let mut state = before.clone();
    let changes: Vec<Change> = orders.iter().filter_map(|order| state.apply(order).ok()).collect();
    steps_of(&changes)
}

/// Opens the sockets of the listeners that are active after a change, and finds those to close. If one
/// cannot be opened, those before it are as they were.
fn plan_sockets(
    sockets: &mut ListenSockets,
    after: &ConfigState,
    touched: &BTreeSet<ListenerKey>,
    orders: &[Order],
) -> Result<SocketPlan, BindError> {
    let mut plan = SocketPlan::default();
    if touched.is_empty() {
        return Ok(plan);
    }
    let interrupted = listeners_interrupted(orders);
    for key in touched {
        if !after.is_active(key) {
            if sockets.is_open(key) {
                plan.close.push(key.clone());
            }
            continue;
        }
        match sockets.open(key) {
            Ok(opened) => {
                // A change that deactivates and activates again makes workers close what they have.
                if opened != Opened::Already || interrupted.contains(key) {
                    plan.send.push(key.clone());
                }
                plan.opened.push((key.clone(), opened));
            }
            Err(error) => {
                for (key, opened) in plan.opened.into_iter().rev() {
                    sockets.undo(&key, opened);
                }
                return Err(error);
            }
        }
    }
    Ok(plan)
}

fn listeners_interrupted(orders: &[Order]) -> BTreeSet<&ListenerKey> {
    let interrupted = orders.iter().filter_map(|order| match order {
        Order::DeactivateListener { key, .. } | Order::RemoveListener { key, .. } => Some(key),
        _ => None,
    });
    interrupted.collect()
}

fn listener_of(effect: &Effect) -> Option<ListenerKey> {
    match effect {
        Effect::HttpListenerSet(listener) => Some(listener.key().clone()),
        Effect::TcpListenerSet(listener) => Some(listener.key().clone()),
        Effect::HttpListenerRemoved(key) | Effect::TcpListenerRemoved(key) => Some(key.clone()),
        _ => None,
    }
}

fn listeners_that_differ(before: &ConfigState, after: &ConfigState) -> BTreeSet<ListenerKey> {
    let http = before.http_listeners().chain(after.http_listeners()).map(|listener| listener.key());
    let tcp = before.tcp_listeners().chain(after.tcp_listeners()).map(|listener| listener.key());
    let differs = |key: &&ListenerKey| {
        before.http_listener(key) != after.http_listener(key)
            || before.tcp_listener(key) != after.tcp_listener(key)
    };
    http.chain(tcp).filter(differs).cloned().collect()
}

fn done_loading(accepted: usize, refused: usize) -> Done {
    let mut message = format!("Successfully loaded the state file: {accepted} records applied");
    if refused > 0 {
        message.push_str(&format!(", {refused} left out (there already, or not served by this version)"));
    }
    Done { message, events: vec![event(EventKind::StateLoaded)], ..Done::default() }
}

fn notes_of(orders: &[Order]) -> Vec<String> {
    let mut notes: Vec<String> = orders.iter().flat_map(Order::notes).collect();
    notes.sort_unstable();
    notes.dedup();
    notes
}

fn append_notes(message: &mut String, notes: &[String]) {
    for note in notes.iter().take(NOTES_MAX) {
        message.push_str("; note: ");
        message.push_str(note);
    }
    if let Some(more) = notes.len().checked_sub(NOTES_MAX).filter(|more| *more > 0) {
        message.push_str(&format!("; and {more} more notes"));
    }
}

/// The order that a protected health check is, and the values that it needs.
fn protect(wire: &mut SetProtectedHealthCheck) -> Result<(Order, Vec<(ClusterId, ProbeSecret)>), String> {
    let refused = |error: OrderError| error.to_string();
    let id = ClusterId::parse(&wire.cluster_id).map_err(refused)?;
    let names = wire.config.headers.iter().map(|header| header.name.as_str());
    let values = wire.values.iter().map(|value| (value.name.as_str(), value.value.as_slice()));
    check_header_values(names, values).map_err(refused)?;
    let mut secrets = Vec::new();
    for (header, value) in wire.config.headers.iter_mut().zip(&mut wire.values) {
        header.fingerprint = fingerprint(&id, &header.name, &value.value)
            .map_err(|error| format!("no fingerprint can be made of a value: {error}"))?;
        let value = std::mem::take(&mut value.value);
        secrets.push((id.clone(), ProbeSecret { fingerprint: header.fingerprint.clone(), value }));
    }
    let check = HealthCheck::from_wire(wire.config.clone()).map_err(refused)?;
    Ok((Order::SetHealthCheck { cluster: id, check: check.into() }, secrets))
}

/// What subscribers are told about an order. The protocol has no event for backends and limits.
fn event_of(order: &Order) -> Option<Event> {
    let listener = |kind: EventKind, key: &ListenerKey| Event {
        kind: kind.into(),
        address: Some(key.address.into()),
        ..Default::default()
    };
    let cluster = |kind: EventKind, id: Option<String>| Event {
        kind: kind.into(),
        cluster_id: id,
        ..Default::default()
    };
    let certificate = |kind: EventKind, address: SocketAddr| Event {
        kind: kind.into(),
        address: Some(address.into()),
        ..Default::default()
    };
    Some(match order {
        Order::AddHttpListener(added) => listener(EventKind::ListenerAdded, added.key()),
        Order::UpdateHttpListener(patch) => Event {
            kind: EventKind::ListenerUpdated.into(),
            address: Some(patch.address().into()),
            ..Default::default()
        },
        Order::AddTcpListener(added) => listener(EventKind::ListenerAdded, added.key()),
        Order::UpdateTcpListener(patch) => Event {
            kind: EventKind::ListenerUpdated.into(),
            address: Some(patch.address().into()),
            ..Default::default()
        },
        Order::RemoveListener { key, .. } => listener(EventKind::ListenerRemoved, key),
        Order::ActivateListener { key, .. } => listener(EventKind::ListenerActivated, key),
        Order::DeactivateListener { key, .. } => listener(EventKind::ListenerDeactivated, key),
        Order::AddCluster(added) => cluster(EventKind::ClusterAdded, Some(added.id().to_string())),
        Order::RemoveCluster(id) => cluster(EventKind::ClusterRemoved, Some(id.to_string())),
        Order::AddHttpFrontend(frontend) => Event {
            address: Some(frontend.address().into()),
            ..cluster(EventKind::FrontendAdded, frontend.cluster_id().map(ToString::to_string))
        },
        Order::RemoveHttpFrontend(frontend) => Event {
            address: Some(frontend.address().into()),
            ..cluster(EventKind::FrontendRemoved, frontend.cluster_id().map(ToString::to_string))
        },
        Order::AddTcpFrontend(frontend) => Event {
            address: Some(frontend.address().into()),
            ..cluster(EventKind::FrontendAdded, Some(frontend.cluster_id().to_string()))
        },
        Order::RemoveTcpFrontend(frontend) => Event {
            address: Some(frontend.address().into()),
            ..cluster(EventKind::FrontendRemoved, Some(frontend.cluster_id().to_string()))
        },
        Order::AddCertificate(added) => certificate(EventKind::CertificateAdded, added.address()),
        Order::RemoveCertificate(key) => certificate(EventKind::CertificateRemoved, key.address),
        Order::ReplaceCertificate { new, .. } => certificate(EventKind::CertificateReplaced, new.address()),
        Order::AddBackend(_)
        | Order::SetConnectionLimit { .. }
        | Order::SetConnectionAttempts(_)
        | Order::RemoveBackend(_)
        | Order::SetHealthCheck { .. }
        | Order::RemoveHealthCheck(_) => return None,
    })
}

/// A final answer that says yes.
pub(super) fn ok(message: impl Into<String>, content: Option<ContentType>) -> Response {
    Response {
        status: ResponseStatus::Ok.into(),
        message: message.into(),
        content: content.map(|content| ResponseContent { content_type: Some(content) }),
    }
}

/// The content that tells a revision.
pub(super) fn revision_info(revision: u64) -> ContentType {
    ContentType::Revision(RevisionInfo { revision })
}
