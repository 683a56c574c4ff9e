//! What `close_sessions` is answered with.

use kakehi_command::order::SessionsOf;
use kakehi_command::proto::response_content::ContentType;
use kakehi_command::proto::supervision::Answer;
use kakehi_command::proto::{ClosedSessions, Response, WorkerResponses};

use super::clients::failure;
use super::gather::Gather;
use super::mutations::ok;
use super::queries::troubles;

/// What each worker has closed. With a worker that did not answer nobody knows whether all are closed: a failure.
pub(super) fn closed(of: &SessionsOf, gather: Gather<Answer>) -> Response {
    let counts = gather.answers().values().filter_map(counts_of);
    let (closed, draining) =
        counts.fold((0, 0), |sum, counts| (sum.0 + counts.closed, sum.1 + counts.draining));
    let text = format!("{of}: {closed} closed, {draining} end with their answer");
    if let Some(troubles) = troubles(&gather) {
        return failure(format!("{text}, but {troubles}"));
    }
    let answers = gather.into_answers().into_iter();
    let map = answers.filter_map(|(id, answer)| Some((id.to_string(), answer.content?))).collect();
    ok(text, Some(ContentType::WorkerResponses(WorkerResponses { map })))
}

fn counts_of(answer: &Answer) -> Option<ClosedSessions> {
    match answer.content.as_ref()?.content_type {
        Some(ContentType::ClosedSessions(counts)) => Some(counts),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kakehi_command::proto::{CloseSessions, ResponseContent, ResponseStatus};

    use super::super::gather::{Lost, WorkerId};
    use super::*;

    fn of() -> SessionsOf {
        let wire = CloseSessions { cluster_id: "a".to_owned(), ..CloseSessions::default() };
        SessionsOf::from_wire(&wire).expect("a good name")
    }

    fn answer(closed: u64, draining: u64) -> Answer {
        let counts = ContentType::ClosedSessions(ClosedSessions { closed, draining });
        let content = Some(ResponseContent { content_type: Some(counts) });
        Answer { id: 1, status: ResponseStatus::Ok.into(), message: String::new(), content }
    }

    #[test]
    fn all_workers_count() {
        let mut gather = Gather::new([WorkerId(1), WorkerId(2)]);
        gather.answer(WorkerId(1), answer(3, 1));
        gather.answer(WorkerId(2), answer(4, 0));
        let response = closed(&of(), gather);
        assert_eq!(response.status(), ResponseStatus::Ok);
        assert_eq!(response.message, "cluster a: 7 closed, 1 end with their answer");
        let Some(ContentType::WorkerResponses(responses)) = response.content.and_then(|it| it.content_type)
        else {
            panic!("worker responses")
        };
        assert_eq!(responses.map.keys().collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn a_silent_worker_is_a_failure_that_tells_what_is_known() {
        let mut gather = Gather::new([WorkerId(1), WorkerId(2)]);
        gather.answer(WorkerId(1), answer(3, 1));
        gather.lose(WorkerId(2), Lost::Silent);
        let response = closed(&of(), gather);
        assert_eq!(response.status(), ResponseStatus::Failure);
        let text = "cluster a: 3 closed, 1 end with their answer, but worker 2 did not answer in time";
        assert_eq!(response.message, text);
    }
}
