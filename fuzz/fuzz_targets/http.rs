//! HTTP: what a client of the API asks, and what a node daemon answers.
#![no_main]

use std::io::{self, Read, Write};

use ganeti_hookd::world::http::{Request, exchange, percent_encoded, read_request};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 64;

/// Takes whatever it is sent, and answers so.
struct Peer<'a>(&'a [u8]);

impl Read for Peer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = read_request(data) {
        let line = format!("{} {} HTTP/1.", request.method, request.target);
        assert!(data.windows(line.len()).any(|window| window == line.as_bytes()), "{request:?}");
        assert!(!request.target.bytes().any(|b| b.is_ascii_control() || b == b' '), "{request:?}");
        assert!(request.target.starts_with(request.path()));
        // What can be decoded can be said again, and means the same.
        if let Ok(parameters) = request.parameters() {
            let said = parameters
                .iter()
                .map(|(name, value)| format!("{}={}", percent_encoded(name), percent_encoded(value)));
            let target = format!("/?{}", said.collect::<Vec<_>>().join("&"));
            let again = Request { target, ..Request::default() }.parameters();
            assert_eq!(again.ok(), Some(parameters), "{request:?}");
        }
    }
    let Ok(answer) = exchange(Peer(data), "POST", "localhost", "/hooks_runner", b"[]", LIMIT) else { return };
    assert!(answer.body.len() <= LIMIT && answer.status < 1000, "{answer:?}");
    let head = data.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    assert!(data[head + 4..].starts_with(&answer.body), "{answer:?}");
});
