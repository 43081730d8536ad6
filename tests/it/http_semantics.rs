//! Conditional and range requests (RFC 9110, sections 13 and 14) against the whole server.
//!
//! The cases are every combination of a method with what the condition and range fields may say of the
//! stored image. What must come out is told by [`expected`], which knows only what each field *means*
//! (it names this state, another one, nothing at all), never its text: so it shares nothing with the
//! server's parsers.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::json;

use crate::{
    client::{Answer, Client},
    server::TestServer,
};

/// What `If-Match` or `If-None-Match` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tags {
    Absent,
    Any,
    This,
    ThisWeak,
    ThisAmongOthers,
    Others,
    Nonsense,
}

/// What a date field says, compared with when the image was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Date {
    Absent,
    Before,
    Same,
    After,
    Nonsense,
}

/// What `Range` asks for, of an image longer than 200 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    Absent,
    Within,
    ToTheEnd,
    OverTheEnd,
    Last,
    Beyond,
    LastNone,
    Several,
    Backwards,
    OtherUnit,
    Nonsense,
}

/// What `If-Range` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfRange {
    Absent,
    This,
    ThisWeak,
    Other,
    SameDate,
    LaterDate,
    Nonsense,
}

const TAGS: [Tags; 7] = [
    Tags::Absent,
    Tags::Any,
    Tags::This,
    Tags::ThisWeak,
    Tags::ThisAmongOthers,
    Tags::Others,
    Tags::Nonsense,
];
const DATES: [Date; 5] = [Date::Absent, Date::Before, Date::Same, Date::After, Date::Nonsense];
const RANGES: [Range; 11] = [
    Range::Absent,
    Range::Within,
    Range::ToTheEnd,
    Range::OverTheEnd,
    Range::Last,
    Range::Beyond,
    Range::LastNone,
    Range::Several,
    Range::Backwards,
    Range::OtherUnit,
    Range::Nonsense,
];
const IF_RANGES: [IfRange; 7] = [
    IfRange::Absent,
    IfRange::This,
    IfRange::ThisWeak,
    IfRange::Other,
    IfRange::SameDate,
    IfRange::LaterDate,
    IfRange::Nonsense,
];

#[derive(Debug, Clone, Copy)]
struct Case {
    method: &'static str,
    if_match: Tags,
    if_unmodified_since: Date,
    if_none_match: Tags,
    if_modified_since: Date,
    range: Range,
    if_range: IfRange,
}

const PLAIN: Case = Case {
    method: "GET",
    if_match: Tags::Absent,
    if_unmodified_since: Date::Absent,
    if_none_match: Tags::Absent,
    if_modified_since: Date::Absent,
    range: Range::Absent,
    if_range: IfRange::Absent,
};

/// Status, and which bytes of the image (start and end, exclusive) come with a 200 or 206.
type Outcome = (u16, Option<(usize, usize)>);

/// The order of section 13.2.2, word by word.
fn expected(case: &Case, length: usize) -> Outcome {
    // Step 1, and section 13.1.1: strong comparison.
    match case.if_match {
        Tags::Absent => {
            // Step 2: only without If-Match; a date that is none counts as no field.
            if case.if_unmodified_since == Date::Before {
                return (412, None);
            }
        }
        Tags::Any | Tags::This | Tags::ThisAmongOthers => {}
        Tags::ThisWeak | Tags::Others | Tags::Nonsense => return (412, None),
    }
    // Step 3, and section 13.1.2: weak comparison.
    match case.if_none_match {
        Tags::Any | Tags::This | Tags::ThisWeak | Tags::ThisAmongOthers => return (304, None),
        Tags::Others | Tags::Nonsense => {}
        // Step 4: only without If-None-Match.
        Tags::Absent => {
            if matches!(case.if_modified_since, Date::Same | Date::After) {
                return (304, None);
            }
        }
    }
    if case.method == "HEAD" {
        return (200, None);
    }
    // Step 5, and section 14: a range of another unit, of bad syntax or of several parts may be left
    // aside; so must be any, when If-Range names another state.
    let holds = match case.if_range {
        IfRange::Absent | IfRange::This | IfRange::SameDate => true,
        IfRange::ThisWeak | IfRange::Other | IfRange::LaterDate | IfRange::Nonsense => false,
    };
    let whole = (200, Some((0, length)));
    if !holds {
        return whole;
    }
    match case.range {
        Range::Absent | Range::Several | Range::Backwards | Range::OtherUnit | Range::Nonsense => whole,
        Range::Within => (206, Some((10, 20))),
        Range::ToTheEnd => (206, Some((length - 5, length))),
        Range::OverTheEnd => (206, Some((100, length))),
        Range::Last => (206, Some((length - 7, length))),
        Range::Beyond | Range::LastNone => (416, None),
    }
}

/// The image under test.
struct Subject {
    client: Client,
    path: String,
    bytes: Bytes,
    tag: String,
    dates: [String; 3],
}

impl Subject {
    async fn new(client: Client, path: String) -> Self {
        let first = client.get(&path).await;
        let modified = httpdate::parse_http_date(first.header("last-modified")).expect("a date");
        let second = std::time::Duration::from_secs(1);
        let dates = [modified - second, modified, modified + second].map(httpdate::fmt_http_date);
        let tag = first.header("etag").to_owned();
        Self { client, path, bytes: first.body, tag, dates }
    }

    fn tags(&self, tags: Tags) -> Option<String> {
        let tag = &self.tag;
        Some(match tags {
            Tags::Absent => return None,
            Tags::Any => "*".to_owned(),
            Tags::This => tag.clone(),
            Tags::ThisWeak => format!("W/{tag}"),
            Tags::ThisAmongOthers => format!("\"a,b\",, W/\"c\" ,{tag}, \"d\""),
            Tags::Others => format!("\"x\", \"{}\"", tag.trim_matches('"').to_uppercase() + "y"),
            Tags::Nonsense => tag.trim_matches('"').to_owned(),
        })
    }

    fn date(&self, date: Date) -> Option<String> {
        Some(match date {
            Date::Absent => return None,
            Date::Before => self.dates[0].clone(),
            Date::Same => self.dates[1].clone(),
            Date::After => self.dates[2].clone(),
            Date::Nonsense => "the day before yesterday".to_owned(),
        })
    }

    fn range(&self, range: Range) -> Option<String> {
        let length = self.bytes.len();
        Some(match range {
            Range::Absent => return None,
            Range::Within => "bytes=10-19".to_owned(),
            Range::ToTheEnd => format!("bytes={}-", length - 5),
            Range::OverTheEnd => format!("bytes=100-{}", length * 2),
            Range::Last => "bytes=-7".to_owned(),
            Range::Beyond => format!("bytes={length}-"),
            Range::LastNone => "bytes=-0".to_owned(),
            Range::Several => "bytes=0-1, 5-6".to_owned(),
            Range::Backwards => "bytes=20-10".to_owned(),
            Range::OtherUnit => "pixels=0-1".to_owned(),
            Range::Nonsense => "bytes=ten-twenty".to_owned(),
        })
    }

    fn if_range(&self, if_range: IfRange) -> Option<String> {
        Some(match if_range {
            IfRange::Absent => return None,
            IfRange::This => self.tag.clone(),
            IfRange::ThisWeak => format!("W/{}", self.tag),
            IfRange::Other => "\"x\"".to_owned(),
            IfRange::SameDate => self.dates[1].clone(),
            IfRange::LaterDate => self.dates[2].clone(),
            IfRange::Nonsense => "soon".to_owned(),
        })
    }

    async fn check(&self, case: &Case) {
        let fields = [
            ("if-match", self.tags(case.if_match)),
            ("if-unmodified-since", self.date(case.if_unmodified_since)),
            ("if-none-match", self.tags(case.if_none_match)),
            ("if-modified-since", self.date(case.if_modified_since)),
            ("range", self.range(case.range)),
            ("if-range", self.if_range(case.if_range)),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            if let Some(value) = value {
                headers.insert(name, value.parse().expect("a value"));
            }
        }
        let answer = Answer::of(self.client.request(case.method, &self.path).headers(headers)).await;
        let length = self.bytes.len();
        let (status, part) = expected(case, length);
        assert_eq!(answer.status, status, "{case:?}");
        self.check_body(case, &answer, part);
        match status {
            200 | 206 | 304 => {
                assert_eq!(answer.header("etag"), self.tag, "{case:?}");
                assert_eq!(answer.header("last-modified"), self.dates[1], "{case:?}");
                assert!(answer.header("cache-control").contains("max-age="), "{case:?}");
                assert_eq!(answer.header("accept-ranges"), "bytes", "{case:?}");
            }
            416 => assert_eq!(answer.header("content-range"), format!("bytes */{length}"), "{case:?}"),
            _ => assert_eq!(answer.header("content-type"), "application/problem+json", "{case:?}"),
        }
    }

    fn check_body(&self, case: &Case, answer: &Answer, part: Option<(usize, usize)>) {
        match part {
            Some((start, end)) => {
                assert!(answer.body == self.bytes.slice(start..end), "{case:?}");
                assert_eq!(answer.header("content-length"), (end - start).to_string(), "{case:?}");
                let range = format!("bytes {start}-{}/{}", end - 1, self.bytes.len());
                let range = if answer.status == 206 { range.as_str() } else { "" };
                assert_eq!(answer.header("content-range"), range, "{case:?}");
            }
            None if answer.status == 200 => {
                assert_eq!(answer.header("content-length"), self.bytes.len().to_string(), "{case:?}");
                assert!(answer.body.is_empty(), "{case:?}");
            }
            None if answer.status == 304 => assert!(answer.body.is_empty(), "{case:?}"),
            None => {}
        }
    }
}

/// The image as it is stored, and a variant of it, in a server with and without memory for images.
async fn subjects(server: &TestServer) -> Vec<Subject> {
    let client = server.client();
    let arguments = json!({"prompt": "a small fox", "width": 128, "height": 128, "num_inference_steps": 1});
    let image = client.generate(&arguments).await.json();
    let path = format!("/images/{}.png", image["image_id"].as_str().expect("an id"));
    let variant = format!("{path}?w=64&format=webp");
    vec![Subject::new(client.clone(), path).await, Subject::new(client, variant).await]
}

async fn check_all(cases: &[Case]) {
    assert!(cases.len() > 120, "{}", cases.len());
    for cache_bytes in ["0", "16777216"] {
        let variables = [("IMAGE_CACHE_BYTES", cache_bytes), ("IMAGE_RATE", "0"), ("LOG_LEVEL", "ERROR")];
        let server = TestServer::start_with(&variables).await;
        for subject in subjects(&server).await {
            assert!(subject.bytes.len() > 200);
            for case in cases {
                subject.check(case).await;
            }
        }
    }
}

#[tokio::test]
async fn preconditions_come_out_as_the_standard_has_them() {
    let mut cases = Vec::new();
    for method in ["GET", "HEAD"] {
        for if_none_match in TAGS {
            for if_modified_since in DATES {
                cases.push(Case { method, if_none_match, if_modified_since, ..PLAIN });
            }
            for if_match in TAGS {
                cases.push(Case { method, if_match, if_none_match, ..PLAIN });
            }
        }
        for if_match in TAGS {
            for if_unmodified_since in DATES {
                cases.push(Case { method, if_match, if_unmodified_since, ..PLAIN });
            }
        }
        for if_unmodified_since in DATES {
            for if_modified_since in DATES {
                cases.push(Case { method, if_unmodified_since, if_modified_since, ..PLAIN });
            }
        }
    }
    check_all(&cases).await;
}

#[tokio::test]
async fn ranges_come_out_as_the_standard_has_them() {
    let mut cases = Vec::new();
    for method in ["GET", "HEAD"] {
        for range in RANGES {
            for if_range in IF_RANGES {
                cases.push(Case { method, range, if_range, ..PLAIN });
            }
            for tags in [Tags::This, Tags::Others, Tags::Nonsense] {
                cases.push(Case { method, range, if_none_match: tags, ..PLAIN });
                cases.push(Case { method, range, if_match: tags, ..PLAIN });
            }
        }
    }
    check_all(&cases).await;
}

#[tokio::test]
async fn pieces_put_together_are_the_image() {
    let server = TestServer::start().await;
    for subject in subjects(&server).await {
        let mut whole = Vec::new();
        while whole.len() < subject.bytes.len() {
            // As a player seeks: an open range of which only a part is taken.
            let (start, end) = (whole.len(), (whole.len() + 997).min(subject.bytes.len()));
            let request = subject.client.request("GET", &subject.path);
            let request = request
                .header("range", format!("bytes={start}-{}", end - 1))
                .header("if-range", &subject.tag);
            let answer = Answer::of(request).await;
            assert_eq!(answer.status, 206);
            whole.extend_from_slice(&answer.body);
        }
        assert!(whole == subject.bytes);
    }
}
