//! Lines of the control socket.

use crate::exit::Exit;
use offhook::api::{ApiError, Command, ErrorCode, Reply, TimedEvent};
use serde::{Deserialize, Serialize};

/// What a client sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// For the telephone.
    Command(Command),
    /// Tell events from now on.
    Subscribe {
        /// And how calls go, once a second.
        stats: bool,
    },
}

/// What a server sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To the oldest unanswered request.
    Reply(Result<Reply, ApiError>),
    /// Something happened.
    Event(TimedEvent),
}

/// Requests that are no commands of the telephone.
#[derive(Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
enum SocketRequest {
    Subscribe {
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        stats: bool,
    },
}

/// A refusal, in the shape of a reply, with the exit code that the command line gives it.
#[derive(Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
enum Refusal {
    Error {
        exit: u8,
        #[serde(flatten)]
        error: ApiError,
    },
}

/// Reads a client's line.
pub fn parse_request(line: &str) -> Result<Request, ApiError> {
    if let Ok(SocketRequest::Subscribe { stats }) = serde_json::from_str(line) {
        return Ok(Request::Subscribe { stats });
    }
    serde_json::from_str(line)
        .map(Request::Command)
        .map_err(|error| ApiError::new(ErrorCode::BadInput, format!("Not a command: {error}.")))
}

/// Writes a client's line.
pub fn request_line(request: &Request) -> String {
    match request {
        Request::Command(command) => json(command),
        Request::Subscribe { stats } => json(&SocketRequest::Subscribe { stats: *stats }),
    }
}

/// Reads a server's line.
pub fn parse_answer(line: &str) -> Result<Answer, serde_json::Error> {
    #[derive(Deserialize)]
    struct Kind {
        event: Option<serde::de::IgnoredAny>,
    }
    if serde_json::from_str::<Kind>(line)?.event.is_some() {
        return serde_json::from_str(line).map(Answer::Event);
    }
    if let Ok(Refusal::Error { error, .. }) = serde_json::from_str(line) {
        return Ok(Answer::Reply(Err(error)));
    }
    serde_json::from_str(line).map(|reply| Answer::Reply(Ok(reply)))
}

/// Writes a reply or refusal.
pub fn reply_line(reply: &Result<Reply, ApiError>) -> String {
    match reply {
        Ok(reply) => json(reply),
        Err(error) => json(&Refusal::Error { exit: Exit::of_code(error.code) as u8, error: error.clone() }),
    }
}

/// Writes an event.
pub fn event_line(event: &TimedEvent) -> String {
    json(event)
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("the API's types have string keys and no failing serialiser")
}

#[cfg(test)]
mod tests {
    use super::*;
    use offhook::api::{
        CallStats, EndReason, Estimate, Event, FailureCode, LookupResult, PathKind, Quality, Recording,
        RecordingEnd, RecordingEvent, RecordingKind, Side,
    };
    use offhook::proto::number::{Number, PlainNumber};

    fn number() -> Number {
        Number::Plain(PlainNumber::from_index(7))
    }

    fn recording() -> Recording {
        Recording {
            recording: "message-1".into(),
            kind: RecordingKind::Message,
            number: Some(number()),
            began: 1,
            duration_ms: 2,
            bytes: 3,
        }
    }

    #[test]
    fn events_come_through_whole() {
        let ended = |reason| Event::Ended {
            call: "c".into(),
            number: number(),
            reason,
            by: Side::Remote,
            duration_ms: 12,
            summary: None,
        };
        let estimate = Some(Estimate { r: 120.5, mos: 4.0, quality: Quality::Good });
        let stats = CallStats { rtt_ms: Some(1.5), copies: vec![1, 5], estimate, ..CallStats::default() };
        let events = [
            Event::Offline,
            Event::Online { number: number() },
            Event::Connected { call: "c".into(), path: PathKind::Direct, relay: None },
            Event::Dtmf { call: "c".into(), digit: '#' },
            Event::TextFailed { id: "i".into(), reason: EndReason::Unreachable },
            Event::Error { code: ErrorCode::Audio, message: "m".into() },
            ended(EndReason::HungUp),
            ended(EndReason::Failed(FailureCode::NoMediaPath)),
            Event::CertificateExpires { days: 59 },
            Event::Stats { call: "c".into(), stats: Box::default() },
            Event::Stats { call: "c".into(), stats: Box::new(stats) },
            Event::RemoteRecording { call: "c".into(), on: true },
            Event::Recording(RecordingEvent::Started { call: "c".into(), recording: "call-1".into() }),
            Event::Recording(RecordingEvent::Ended {
                call: "c".into(),
                recording: None,
                end: RecordingEnd::Unanswered,
                duration_ms: 0,
            }),
            Event::VoiceMessage(recording()),
        ];
        for event in events {
            let timed = TimedEvent { t_ns: u64::MAX - 1, event };
            let line = event_line(&timed);
            assert!(!line.contains('\n'));
            assert_eq!(parse_answer(&line).unwrap(), Answer::Event(timed), "{line}");
        }
    }

    #[test]
    fn replies_and_refusals_come_through_whole() {
        let lookup = LookupResult { number: number(), fingerprint: "f".into(), terminals: 1, found_ms: 9 };
        let replies = [
            Ok(Reply::Done),
            Ok(Reply::Call { call: "c".into() }),
            Ok(Reply::Lookup(lookup)),
            Ok(Reply::Contacts { contacts: Vec::new() }),
            Ok(Reply::Recordings { recordings: vec![recording()] }),
            Err(ApiError::new(ErrorCode::NoCall, "There is no call.")),
        ];
        for reply in replies {
            let line = reply_line(&reply);
            assert_eq!(parse_answer(&line).unwrap(), Answer::Reply(reply.clone()), "{line}");
            if reply.is_err() {
                assert_eq!(
                    line,
                    r#"{"reply":"error","exit":1,"code":"no_call","message":"There is no call."}"#
                );
            }
        }
    }

    #[test]
    fn requests_come_through_and_garbage_is_refused() {
        for request in [
            Request::Subscribe { stats: false },
            Request::Subscribe { stats: true },
            Request::Command(Command::Status),
            Request::Command(Command::History { limit: Some(7) }),
            Request::Command(Command::HistoryClear),
            Request::Command(Command::Text { number: "ada".into(), body: "line\nbreak".into() }),
        ] {
            assert_eq!(parse_request(&request_line(&request)).unwrap(), request);
        }
        assert_eq!(request_line(&Request::Subscribe { stats: false }), r#"{"command":"subscribe"}"#);
        assert_eq!(
            parse_request(r#"{"command":"history"}"#),
            Ok(Request::Command(Command::History { limit: None }))
        );
        for garbage in
            ["", "null", "[]", "{}", "hello", r#"{"command":"fly"}"#, r#"{"command":7}"#, "{\"command\":"]
        {
            assert_eq!(parse_request(garbage).unwrap_err().code, ErrorCode::BadInput, "{garbage}");
            assert!(parse_answer(garbage).is_err(), "{garbage}");
        }
    }
}
