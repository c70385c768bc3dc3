//! The protocol of the control socket: a request is a JSON document in a line, and so is its
//! answer.
//!
//! ```text
//! {"version":1,"request":"status"}
//! {"version":1,"status":{...}}
//! {"version":1,"request":"mappings","addresses":["192.0.2.1"]}
//! {"version":1,"mappings":{...}}
//! {"version":1,"request":"trace","host":"192.0.2.0/24","family":4,"protocol":"udp","port":53}
//! {"version":1,"trace":{}}
//! ```
//!
//! After the answer to a request for a [trace](super::trace) comes a pcapng file, until either side
//! closes the connection.
//!
//! The answer to a request that is refused has `error`, in words, and nothing else.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{mappings::Mappings, status::Status, trace::Filter};

/// The version of the protocol. It is raised when a document of an older one would be
/// misunderstood; fields that are added do not raise it.
pub const VERSION: u32 = 1;

/// The maximum length of a request, in octets, with its newline.
pub const MAX_REQUEST_LEN: usize = 4096;

/// The maximum number of addresses in a request: packets wait while it is answered.
pub const MAX_ADDRESSES: usize = 80;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// How the daemon is.
    Status,
    /// The mappings that are about these addresses.
    Mappings {
        /// The addresses, of either family; at most [`MAX_ADDRESSES`].
        addresses: Vec<IpAddr>,
    },
    /// The packets that pass this filter, from now on.
    Trace(Filter),
}

/// A request with the version of its document.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    #[serde(flatten)]
    content: T,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// How it is.
    Status(Box<Status>),
    /// The mappings that were asked for.
    Mappings(Mappings),
    /// The trace follows.
    Trace {},
    /// The request is refused, for this reason.
    Error(String),
}

impl Request {
    /// The document of the request, with its newline.
    pub fn to_line(&self) -> String {
        to_line(self)
    }

    /// Reads the document of a request, without its newline. The error is for the client.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        match read(line)? {
            Self::Mappings { addresses } if addresses.len() > MAX_ADDRESSES => Err(format!(
                "expected at most {MAX_ADDRESSES} addresses, found {}",
                addresses.len()
            )),
            request => Ok(request),
        }
    }
}

impl Answer {
    /// The document of the answer, with its newline.
    pub fn to_line(&self) -> String {
        to_line(self)
    }

    /// Reads the document of an answer. The error says what is wrong with it.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        read(line)
    }
}

fn to_line(content: &impl Serialize) -> String {
    let version = VERSION;
    // All that is written has names for keys, so this cannot fail.
    let line = serde_json::to_string(&Envelope { version, content });
    line.unwrap_or_default() + "\n"
}

fn read<T: for<'de> Deserialize<'de>>(line: &[u8]) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let bad = |error: serde_json::Error| format!("expected a document of the protocol: {error}");
    let Version { version } = serde_json::from_slice(line).map_err(bad)?;
    if version != VERSION {
        return Err(format!("expected version {VERSION}, found {version}"));
    }
    let envelope: Envelope<T> = serde_json::from_slice(line).map_err(bad)?;
    Ok(envelope.content)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let addresses = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let filter = "host 2001:db8::/32 family 6 proto icmp port 53 dropped".split(' ');
        let filters = [Filter::default(), Filter::parse(filter).unwrap()];
        let [all, some] = filters.map(Request::Trace);
        for request in [Request::Status, Request::Mappings { addresses }, all, some] {
            let line = request.to_line();
            assert_eq!(Request::read(line.trim_end().as_bytes()), Ok(request));
        }
        assert_eq!(Answer::Trace {}.to_line(), "{\"version\":1,\"trace\":{}}\n");
        let error = Answer::Error("no".to_owned());
        assert_eq!(error.to_line(), "{\"version\":1,\"error\":\"no\"}\n");
        assert_eq!(Answer::read(error.to_line().as_bytes()), Ok(error));
    }

    /// Others write requests, too: fields that are not known are left out, and what is wrong is
    /// said.
    #[test]
    fn others_can_write_requests() {
        let known = br#"{"request":"status", "version":1, "later":[]}"#;
        assert_eq!(Request::read(known), Ok(Request::Status));
        for (line, complaint) in [
            (
                &br#"{"version":2,"request":"status"}"#[..],
                "expected version 1, found 2",
            ),
            (br#"{"request":"status"}"#, "missing field `version`"),
            (
                br#"{"version":1,"request":"reboot"}"#,
                "unknown variant `reboot`",
            ),
            (
                br#"{"version":1,"request":"trace","family":5}"#,
                "expected family 4 or 6, found 5",
            ),
            (
                br#"{"version":1,"request":"trace","host":"example.org"}"#,
                "expected an IPv4 or IPv6 address or prefix, found \"example.org\"",
            ),
            (b"GET / HTTP/1.1\r", "expected a document of the protocol"),
            (b"\xff\xfe", "expected a document of the protocol"),
            (&[b'['; 4096], "expected a document of the protocol"),
        ] {
            let error = Request::read(line).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
    }

    /// xlatd-status(8): to look for mappings takes time in which no packet is translated. So many
    /// addresses as may be asked for fit in a request, whatever they are.
    #[test]
    fn a_request_has_a_limit_of_addresses() {
        let request = |count| Request::Mappings {
            addresses: vec![Ipv6Addr::from_bits(u128::MAX).into(); count],
        };
        let line = request(MAX_ADDRESSES).to_line();
        assert!(line.len() <= MAX_REQUEST_LEN, "{}", line.len());
        assert!(Request::read(line.trim_end().as_bytes()).is_ok());
        let line = request(MAX_ADDRESSES + 1).to_line();
        let error = Request::read(line.trim_end().as_bytes()).unwrap_err();
        assert_eq!(error, "expected at most 80 addresses, found 81");
    }
}
