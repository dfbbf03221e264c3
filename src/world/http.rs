//! As much HTTP/1.1 as two programs of one machine, or two nodes of one cluster, need:
//! one request and one answer a connection. Parsing is `httparse`'s.

use std::io::{self, BufRead, BufReader, Read, Write};

use crate::ganeti::text::plain;

/// The most bytes of a request or answer before its body.
const HEAD_LIMIT: u64 = 16 * 1024;

/// The most headers of a request or answer.
const HEADERS_MAX: usize = 64;

/// A request's method and target, and who says that it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET`, ...
    pub method: String,
    /// Path and query, e.g. `/v1/events?after=17`.
    pub target: String,
    /// The headers that tell a browser's requests from others', and whose page sent them.
    pub sender: Sender,
}

/// What a request says of where it comes from. Each is as it was sent, with what is not UTF-8
/// replaced; `None` where it was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// `Host`: by which name the client has found us.
    pub host: Option<String>,
    /// `Origin`: the page whose script or form asks.
    pub origin: Option<String>,
    /// `Sec-Fetch-Site`: what that page is to us.
    pub fetch_site: Option<String>,
    /// `Sec-Fetch-Mode`: what it is asked for.
    pub fetch_mode: Option<String>,
}

impl Sender {
    fn of(headers: &[httparse::Header<'_>]) -> Self {
        let all = |name: &str| {
            let named = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            let values = named.map(|header| String::from_utf8_lossy(header.value).trim().to_owned());
            values.reduce(|first, next| first + ", " + &next)
        };
        Self {
            host: all("Host"),
            origin: all("Origin"),
            fetch_site: all("Sec-Fetch-Site"),
            fetch_mode: all("Sec-Fetch-Mode"),
        }
    }
}

impl Request {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The names and values in the query, in their order.
    ///
    /// # Errors
    /// Which of them is not what a query may hold.
    pub fn parameters(&self) -> Result<Vec<(String, String)>, InvalidQuery> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let decoded = |text: &str| percent_decoded(text).ok_or_else(|| InvalidQuery(text.to_owned()));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((decoded(name)?, decoded(value)?))
            })
            .collect()
    }
}

/// A part of a query that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("\"{}\" in the query is not percent-encoded UTF-8", plain(.0, 100))]
pub struct InvalidQuery(String);

/// A text as it may stand in a query.
pub fn percent_encoded(text: &str) -> String {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let encoded = text.bytes().map(|byte| match is_plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// What a part of a query stands for: `%41` for A, `+` for a space.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

/// What is to be answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// 200, ...
    pub status: u16,
    /// Headers besides those that every answer has.
    pub headers: Vec<(&'static str, String)>,
    /// The content.
    pub body: Vec<u8>,
}

impl Answer {
    /// An answer of this content.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("Content-Type", content_type.to_owned())], body: body.into() }
    }

    /// Also tells this.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// Writes it.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn write(&self, mut stream: impl Write) -> io::Result<()> {
        self.write_lines(&mut stream, Some(self.body.len()))?;
        stream.write_all(&self.body)?;
        stream.flush()
    }

    /// Writes the beginning of an answer whose end is that of the connection.
    ///
    /// # Errors
    /// When the stream fails.
    pub fn write_head(&self, stream: impl Write) -> io::Result<()> {
        self.write_lines(stream, None)
    }

    fn write_lines(&self, mut stream: impl Write, length: Option<usize>) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason_phrase(self.status));
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
        stream.write_all((head + "Connection: close\r\n\r\n").as_bytes())
    }
}

/// What a status is called (RFC 9110).
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

/// An answer's status and body, as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// 200, ...
    pub status: u16,
    /// What was answered.
    pub body: Vec<u8>,
}

fn invalid(what: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

fn too_long(limit: usize) -> io::Error {
    invalid(format!("the HTTP answer is longer than {limit} bytes"))
}

/// Reads up to and including the empty line that ends a head.
fn read_head(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut stream = stream.take(HEAD_LIMIT);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_until(b'\n', &mut head)? == 0 {
            return Err(invalid("the HTTP head is incomplete or too long"));
        }
    }
    Ok(head)
}

/// Reads a request without a body.
///
/// # Errors
/// When it is not HTTP, or the stream fails.
pub fn read_request(stream: impl Read) -> io::Result<Request> {
    let head = read_head(&mut BufReader::new(stream))?;
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(&head).map_err(invalid)?;
    match (request.method, request.path) {
        (Some(method), Some(target)) => {
            let sender = Sender::of(request.headers);
            Ok(Request { method: method.to_owned(), target: target.to_owned(), sender })
        }
        _ => Err(invalid("the HTTP request is incomplete")),
    }
}

/// Sends a request and reads the answer, at most `limit` bytes of body.
///
/// # Errors
/// When the stream fails, or what comes back is not HTTP or too long.
pub fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    host: &str,
    target: &str,
    body: &[u8],
    limit: usize,
) -> io::Result<Response> {
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    stream.flush()?;
    read_response(stream, limit)
}

fn read_response(stream: impl Read, limit: usize) -> io::Result<Response> {
    let mut stream = BufReader::new(stream);
    let head = read_head(&mut stream)?;
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    response.parse(&head).map_err(invalid)?;
    let status = response.code.ok_or_else(|| invalid("the HTTP answer has no status"))?;
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .map(|header| std::str::from_utf8(header.value).unwrap_or_default().trim().parse::<usize>())
        .transpose()
        .map_err(invalid)?;
    if length.is_some_and(|length| length > limit) {
        return Err(too_long(limit));
    }
    let mut body = Vec::new();
    let wanted = length.map_or((limit as u64).saturating_add(1), |length| length as u64);
    stream.take(wanted).read_to_end(&mut body)?;
    if body.len() > limit {
        return Err(too_long(limit));
    }
    if length.is_some_and(|length| body.len() < length) {
        return Err(invalid("the HTTP answer ended early"));
    }
    Ok(Response { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_apart() {
        let request =
            read_request(&b"GET /v1/events?after=17&wait=3 HTTP/1.1\r\nHost: x\r\n\r\n"[..]).unwrap();
        assert_eq!((request.method.as_str(), request.path()), ("GET", "/v1/events"));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(request.parameters().unwrap(), [pair("after", "17"), pair("wait", "3")]);
        let parameters =
            |query: &str| Request { target: format!("/x{query}"), ..Request::default() }.parameters();
        let hard = parameters("?a=b=c%3D&&d&%65=%C3%A4+%2b%20?").unwrap();
        assert_eq!(hard, [pair("a", "b=c="), pair("d", ""), pair("e", "ä + ?")]);
        assert!(parameters("").unwrap().is_empty() && parameters("?").unwrap().is_empty());
        for bad in ["?a=%", "?a=%4", "?a=%+4", "?a=%-1", "?a=%C3", "?%=1"] {
            assert!(parameters(bad).is_err(), "{bad}");
        }
        assert!(read_request(&b"GET / HTTP/1.1\r\n"[..]).is_err());
        let asked =
            &b"GET / HTTP/1.1\r\nhost: a\r\nORIGIN: null \r\nHost: b\r\nSec-Fetch-Site: none\r\n\r\n"[..];
        let sender = read_request(asked).unwrap().sender;
        assert_eq!((sender.host.as_deref(), sender.origin.as_deref()), (Some("a, b"), Some("null")));
        assert_eq!((sender.fetch_site.as_deref(), sender.fetch_mode), (Some("none"), None));
        assert!(read_request(vec![b'x'; 20_000].as_slice()).is_err());
    }

    #[test]
    fn an_answer_has_a_head_and_its_length() {
        for status in [200, 400, 404, 405, 409, 410, 503] {
            assert_ne!(reason_phrase(status), reason_phrase(500), "{status}");
        }
        let mut text = Vec::new();
        Answer::new(410, "text/plain", "hi").with("X", 3).write(&mut text).unwrap();
        let expected = "HTTP/1.1 410 Gone\r\nContent-Type: text/plain\r\nX: 3\r\nContent-Length: 2\r\n\
                        Connection: close\r\n\r\nhi";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn an_answer_that_ends_early_is_no_answer() {
        let answer = |text: &str| read_response(text.as_bytes(), 10);
        assert_eq!(answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap().body, b"hi");
        assert!(answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi").is_err());
        assert!(answer("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world").is_err());
        assert_eq!(answer("HTTP/1.1 200 OK\r\n\r\n0123456789").unwrap().body.len(), 10);
        assert!(answer("HTTP/1.1 200 OK\r\n\r\nhello world").is_err(), "nor is one that is cut off by us");
    }
}
