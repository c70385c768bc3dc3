//! Requests for metrics by HTTP, and the answers (RFC 9110, RFC 9112).

use httparse::{EMPTY_HEADER, Header, Request, Status};

use super::Format;

/// The maximum length of the head of a request, in octets.
pub const MAX_HEAD_LEN: usize = 8192;

/// The maximum number of header fields of a request.
const MAX_FIELDS: usize = 64;

/// What is wanted by the octets that have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// More octets are to come.
    Incomplete,
    /// The metrics, in this format.
    Metrics(Format),
    /// Something else, to which this is the answer.
    Other(Vec<u8>),
}

/// Reads what has come of a request: its head, of at most [`MAX_HEAD_LEN`] octets. A body is not
/// looked at.
pub fn wanted(octets: &[u8]) -> Wanted {
    let mut fields = [EMPTY_HEADER; MAX_FIELDS];
    let mut request = Request::new(&mut fields);
    match request.parse(octets) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) if octets.len() < MAX_HEAD_LEN => return Wanted::Incomplete,
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return refused(
                "431 Request Header Fields Too Large",
                "",
                "The request is too long.",
            );
        }
        Err(error) => return refused("400 Bad Request", "", &format!("Bad request: {error}.")),
    }
    match request.method {
        Some("HEAD") => without_content(got(&request)),
        Some("GET") => got(&request),
        _ => refused(
            "405 Method Not Allowed",
            "Allow: GET, HEAD\r\n",
            "Only GET and HEAD are allowed.",
        ),
    }
}

fn got(request: &Request<'_, '_>) -> Wanted {
    let target = request.path.unwrap_or_default();
    match target.split('?').next() {
        Some("/metrics") => Wanted::Metrics(accepted(request.headers)),
        Some("/") => refused("200 OK", "", "The metrics of xlatd are at /metrics."),
        _ => refused("404 Not Found", "", "The metrics of xlatd are at /metrics."),
    }
}

/// The answer to HEAD for the one to GET (RFC 9110 section 9.3.2). How long metrics are is known
/// only with their content, which nobody is asked for.
fn without_content(got: Wanted) -> Wanted {
    match got {
        Wanted::Incomplete => Wanted::Incomplete,
        Wanted::Metrics(format) => {
            Wanted::Other(head("200 OK", "", format.content_type()).into_bytes())
        }
        Wanted::Other(mut answer) => {
            let end = answer.windows(4).position(|octets| octets == b"\r\n\r\n");
            answer.truncate(end.map_or(0, |at| at + 4));
            Wanted::Other(answer)
        }
    }
}

/// The answer with metrics.
pub fn metrics(text: &str, format: Format) -> Vec<u8> {
    response("200 OK", "", format.content_type(), text)
}

/// The answer if the metrics are not to be had, for a reason in words.
pub fn unavailable(reason: &str) -> Vec<u8> {
    let body = format!("{reason}\n");
    response("503 Service Unavailable", "", PLAIN, &body)
}

const PLAIN: &str = "text/plain; charset=utf-8";

fn refused(status: &str, fields: &str, line: &str) -> Wanted {
    Wanted::Other(response(status, fields, PLAIN, &format!("{line}\n")))
}

fn response(status: &str, fields: &str, content_type: &str, body: &str) -> Vec<u8> {
    let fields = format!("Content-Length: {}\r\n{fields}", body.len());
    (head(status, &fields, content_type) + body).into_bytes()
}

fn head(status: &str, fields: &str, content_type: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nVary: Accept\r\n\
         Connection: close\r\n{fields}\r\n"
    )
}

/// The format that the Accept fields prefer (RFC 9110 section 12.5.1): OpenMetrics, where it is
/// named and its weight is not less than that of text/plain.
fn accepted(fields: &[Header<'_>]) -> Format {
    let accept = fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("accept"));
    let values = accept.filter_map(|field| str::from_utf8(field.value).ok());
    let (mut open, mut plain) = (0.0, 0.0);
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut weight, mut version) = (1.0_f32, None);
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key.trim().to_ascii_lowercase().as_str() {
                "q" => weight = value.trim().parse().unwrap_or(0.0),
                "version" => version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        match &*name {
            "application/openmetrics-text" if version.is_none_or(|one| one == "1.0.0") => {
                open = weight.max(open);
            }
            "text/plain" => plain = weight.max(plain),
            _ => {}
        }
    }
    match open > 0.0 && open >= plain {
        true => Format::OpenMetrics,
        false => Format::Prometheus,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_of(octets: &[u8]) -> String {
        match wanted(octets) {
            Wanted::Other(answer) => {
                let text = String::from_utf8_lossy(&answer).into_owned();
                assert!(text.contains("\r\nConnection: close\r\n"), "{text}");
                let (_, body) = text.split_once("\r\n\r\n").unwrap_or_default();
                let len = format!("\r\nContent-Length: {}\r\n", body.len());
                assert!(text.contains(&len), "{text}");
                text.split(' ').nth(1).unwrap_or_default().to_owned()
            }
            other => format!("{other:?}"),
        }
    }

    /// RFC 9110 sections 15.5.1, 15.5.5 and 15.5.6, RFC 6585 section 5.
    #[test]
    fn only_metrics_are_served() {
        let long = format!("GET /{}", "a".repeat(MAX_HEAD_LEN - 5));
        let fields = "a: b\r\n".repeat(MAX_FIELDS + 1);
        for (octets, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", "200"),
            (
                "GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n",
                "Metrics(Prometheus)",
            ),
            ("GET /metrics HTTP/1.0\r\n\r\n", "Metrics(Prometheus)"),
            ("GET /metric HTTP/1.1\r\n\r\n", "404"),
            ("GET /metrics/.. HTTP/1.1\r\n\r\n", "404"),
            (
                "POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc",
                "405",
            ),
            ("DELETE /x HTTP/1.1\r\n\r\n", "405"),
            ("\x16\x03\x01", "400"),
            ("GET /metrics HTTP/3.0\r\n\r\n", "400"),
            (&*long, "431"),
            (&format!("GET / HTTP/1.1\r\n{fields}\r\n"), "431"),
            ("", "Incomplete"),
            ("GET /metrics HTTP/1.1\r\nHost: a\r\n", "Incomplete"),
        ] {
            assert_eq!(status_of(octets.as_bytes()), expected, "{octets}");
        }
        let Wanted::Other(answer) = wanted(b"PUT / HTTP/1.1\r\n\r\n") else {
            panic!("expected an answer");
        };
        assert!(String::from_utf8_lossy(&answer).contains("\r\nAllow: GET, HEAD\r\n"));
    }

    /// RFC 9110 section 9.3.2: the fields of the answer to GET, as far as they are known, and no
    /// content.
    #[test]
    fn head_is_answered_without_content() {
        let answer = |request: &str| match wanted(request.as_bytes()) {
            Wanted::Other(answer) => String::from_utf8_lossy(&answer).into_owned(),
            other => format!("{other:?}"),
        };
        for path in ["/", "/other"] {
            let got = answer(&format!("GET {path} HTTP/1.1\r\n\r\n"));
            let (head, content) = got.split_once("\r\n\r\n").unwrap_or_default();
            assert!(!content.is_empty(), "{got}");
            let found = answer(&format!("HEAD {path} HTTP/1.1\r\n\r\n"));
            assert_eq!(found, format!("{head}\r\n\r\n"));
        }
        let accept = "Accept: application/openmetrics-text";
        let metrics = answer(&format!("HEAD /metrics HTTP/1.1\r\n{accept}\r\n\r\n"));
        assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
        let kind = format!("Content-Type: {}\r\n", Format::OpenMetrics.content_type());
        assert!(metrics.contains(&kind), "{metrics}");
        assert!(metrics.ends_with("\r\n\r\n"), "{metrics}");
        assert!(!metrics.contains("Content-Length"), "{metrics}");
    }

    /// RFC 9110 section 12.5.1. The first one is of Prometheus 2.42, the second of Prometheus 3.
    #[test]
    fn the_format_is_the_one_that_is_preferred() {
        use Format::{OpenMetrics, Prometheus};
        for (accept, expected) in [
            (
                "Accept: application/openmetrics-text;version=1.0.0,\
                 application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,\
                 */*;q=0.1\r\n",
                OpenMetrics,
            ),
            (
                "Accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.1\r\n",
                OpenMetrics,
            ),
            ("", Prometheus),
            ("Accept: */*\r\n", Prometheus),
            ("Accept: text/plain;version=0.0.4\r\n", Prometheus),
            ("accept: Application/OpenMetrics-Text\r\n", OpenMetrics),
            (
                "Accept: text/plain\r\nAccept: application/openmetrics-text\r\n",
                OpenMetrics,
            ),
            (
                "Accept: application/openmetrics-text;q=0.3, text/plain;q=0.4\r\n",
                Prometheus,
            ),
            ("Accept: application/openmetrics-text;q=0\r\n", Prometheus),
            (
                "Accept: application/openmetrics-text; version=2.0.0\r\n",
                Prometheus,
            ),
            (
                "Accept: \u{ff};;,=,application/openmetrics-text;q=x\r\n",
                Prometheus,
            ),
        ] {
            let request = format!("GET /metrics HTTP/1.1\r\n{accept}\r\n");
            assert_eq!(
                wanted(request.as_bytes()),
                Wanted::Metrics(expected),
                "{accept}"
            );
        }
    }
}
