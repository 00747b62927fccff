//! Against the stand-in of testing.rs, which fails in each way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;
use crate::host::http::testing::{Request, Server, json, serve};

/// The behaviour of the stand-in.
#[derive(Clone, Copy, PartialEq)]
enum How {
    Works,
    /// Only GETs without a token.
    VersionOne,
    /// A PUT gets no answer: its hops are used up.
    HopLimit,
    Silent,
    Unauthorized,
    Disabled,
    Garbage,
    /// The first two answers are 503.
    Busy,
    Broken,
    Long,
    Empty,
}

async fn service(how: How) -> (Server, Imds) {
    let asked = AtomicUsize::new(0);
    let server = serve(move |request| answer(how, asked.fetch_add(1, Ordering::Relaxed), &request)).await;
    let imds = Imds::at(&format!("http://{}", server.address));
    (server, imds)
}

fn answer(how: How, nth: usize, request: &Request) -> String {
    let line = request.head.lines().next().unwrap_or_default();
    let hold = "\0HOLD".to_owned();
    match how {
        How::Silent => return hold,
        How::Busy if nth < 2 => return json(503, "", ""),
        How::Broken => return String::new(),
        _ => {}
    }
    let token = line.starts_with("PUT ");
    match how {
        How::VersionOne if token => return json(405, "", ""),
        How::HopLimit if token => return hold,
        How::Disabled if token => return json(403, "", ""),
        How::Empty if token => return json(200, "", ""),
        How::Unauthorized if !token => return json(401, "", ""),
        How::Garbage if !token => return json(200, "", "<html>\n<body>"),
        How::Long if !token => return json(200, "", &"x".repeat(LONGEST + 1)),
        _ => {}
    }
    // The host name is empty without DNS names in the network.
    let facts = [("public-ipv4", "203.0.113.7"), ("tags/instance/Name", "web one"), ("public-hostname", "")];
    let facts = facts.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let (status, body) = testing::answer(&facts, &request.head);
    json(status, "", &body)
}

#[tokio::test]
async fn facts_come_with_a_token() {
    for how in [How::Works, How::Busy] {
        let (_server, imds) = service(how).await;
        let facts =
            imds.facts(&["public-ipv4", "public-hostname", "ipv6", "tags/instance/Name"]).await.unwrap();
        let facts: Vec<_> = facts.iter().map(Option::as_deref).collect();
        assert_eq!(facts, [Some("203.0.113.7"), None, None, Some("web one")]);
    }
}

#[tokio::test]
async fn every_failure_has_its_own_words_within_the_limit() {
    for (how, words) in [
        (How::VersionOne, "answers 405 to the request for a token (IMDSv2): it does not know IMDSv2"),
        (How::HopLimit, "/latest/api/token within 2 s): is this host"),
        (How::Silent, "an agent in a container needs a hop limit of 2"),
        (How::Unauthorized, "answers 401 for `public-ipv4`: it does not accept its own token"),
        (
            How::Disabled,
            "answers 403 to the request for a token (IMDSv2): the metadata of this instance is disabled",
        ),
        (How::Garbage, "something else than one line of text for `public-ipv4`"),
        (How::Broken, "the metadata service of EC2: asking http://"),
        (How::Long, "the metadata service of EC2: the answer of http://"),
        (How::Empty, "gives no usable token"),
    ] {
        let (_server, imds) = service(how).await;
        let begun = Instant::now();
        let error = imds.facts(&["public-ipv4"]).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(begun.elapsed() < LIMIT + Duration::from_secs(1), "{:?}", begun.elapsed());
        assert!(!error.contains(testing::TOKEN), "{error}");
    }
}

#[tokio::test]
async fn a_host_without_the_service_is_told_at_once() {
    let error = Imds::at("http://127.0.0.1:1").facts(&["public-ipv4"]).await.unwrap_err().to_string();
    assert!(error.contains("is this host an EC2 instance"), "{error}");
}
