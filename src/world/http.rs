//! As much HTTP/1.1 as two programs of one machine, or two nodes of one cluster, need:
//! one request and one answer a connection. Parsing is `httparse`'s.

use std::io::{self, BufRead, BufReader, Read, Write};

/// The most bytes of a request or answer before its body.
const HEAD_LIMIT: u64 = 16 * 1024;

/// The most headers of a request or answer.
const HEADERS_MAX: usize = 64;

/// A request's method and target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, ...
    pub method: String,
    /// Path and query, e.g. `/v1/events?after=17`.
    pub target: String,
}

impl Request {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// A whole number from the query.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// A text from the query, as it stands there.
    pub fn text(&self, name: &str) -> Option<&str> {
        let query = self.target.split_once('?')?.1;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// An answer's status and body.
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
        (Some(method), Some(target)) => Ok(Request { method: method.to_owned(), target: target.to_owned() }),
        _ => Err(invalid("the HTTP request is incomplete")),
    }
}

/// Writes an answer.
///
/// # Errors
/// When the stream fails.
pub fn write_response(
    mut stream: impl Write,
    status: u16,
    content_type: &str,
    body: &[u8],
) -> io::Result<()> {
    let reason = if status < 300 { "OK" } else { "Error" };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    stream.flush()
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
        assert_eq!(
            (request.number("after"), request.number("wait"), request.number("x")),
            (Some(17), Some(3), None)
        );
        assert!(read_request(&b"GET / HTTP/1.1\r\n"[..]).is_err());
        assert!(read_request(vec![b'x'; 20_000].as_slice()).is_err());
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
