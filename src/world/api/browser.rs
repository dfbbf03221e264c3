//! What a browser may ask: whoever reaches the socket through a tunnel (`ssh -L`) has it at an
//! address of their own machine, and any page that they have open can have their browser ask there.
//!
//! Promises: a page of another site learns nothing and changes nothing. A request that such a page
//! sends is refused by what the browser says of it (`Sec-Fetch-Site`, `Origin`); one whose page has had its own
//! name point to this address (DNS rebinding) by the name that it asks for (`Host`). What changes
//! something is for no browser at all: the page that we serve only reads. Programs send none of
//! these headers but `Host`, and say `localhost`.

use std::net::IpAddr;

use super::problem::Problem;
use crate::ganeti::text::plain;
use crate::world::http::{Request, Sender};

/// Bytes of a header that an error quotes.
const QUOTE_MAX: usize = 100;

/// The page that people look at. A link from elsewhere may lead there: it shows nothing to where
/// that was.
pub const PAGE: &str = "/";

/// Lets pass what a program asks, and what our own page does.
///
/// # Errors
/// Why it is refused.
pub fn check(request: &Request) -> Result<(), Problem> {
    let Sender { host, origin, fetch_site, .. } = &request.sender;
    if let Some(host) = host.as_deref().filter(|host| !is_ours(host)) {
        let host = plain(host, QUOTE_MAX);
        let detail =
            format!("this is not \"{host}\": ask for localhost, or for the address of a tunnel's end");
        return Err(Problem::new(403, detail));
    }
    let is_browsers = origin.is_some() || fetch_site.is_some();
    if request.method != "GET" && is_browsers {
        return Err(Problem::new(403, "a browser may only read: use `ganeti-hookd rerun` on the master"));
    }
    let own = host.as_deref().map(|host| format!("http://{host}"));
    let is_foreign = origin.is_some() && *origin != own || !is_of_our_page(request);
    match is_foreign {
        true => Err(Problem::new(403, "a page of another site may not read this")),
        false => Ok(()),
    }
}

/// Whether a name is one that nobody else can have: this machine's, or an address.
fn is_ours(host: &str) -> bool {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (name, port) = bracketed.unwrap_or_else(|| host.split_at(host.find(':').unwrap_or(host.len())));
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.to_ascii_lowercase();
    is_port && (name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok())
}

fn is_of_our_page(request: &Request) -> bool {
    let Sender { fetch_site, fetch_mode, .. } = &request.sender;
    match fetch_site.as_deref() {
        None | Some("none" | "same-origin") => true,
        Some(_) => request.path() == PAGE && fetch_mode.as_deref() == Some("navigate"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a request of these headers.
    fn is_let_pass(method: &str, target: &str, headers: &[(&str, &str)]) -> bool {
        let value = |name: &str| {
            headers.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        };
        let sender = Sender {
            host: value("Host"),
            origin: value("Origin"),
            fetch_site: value("Sec-Fetch-Site"),
            fetch_mode: value("Sec-Fetch-Mode"),
        };
        check(&Request { method: method.to_owned(), target: target.to_owned(), sender }).is_ok()
    }

    #[test]
    fn a_name_of_others_is_refused() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "hookd.localhost:1",
            "127.0.0.1:8080",
            "[::1]:8080",
            "198.51.100.7",
        ] {
            assert!(is_let_pass("GET", "/v1/events", &[("Host", host)]), "{host}");
        }
        assert!(is_let_pass("GET", "/v1/events", &[]), "no browser leaves it out");
        for host in [
            "evil.example",
            "localhost.evil.example:8080",
            "127.0.0.1.nip.io",
            "",
            "localhost:x",
            "[::1",
            "a, localhost",
        ] {
            assert!(!is_let_pass("GET", "/v1/events", &[("Host", host)]), "{host}");
            assert!(!is_let_pass("GET", "/", &[("Host", host)]), "{host}");
        }
    }

    #[test]
    fn a_page_of_another_site_reads_nothing() {
        let host = ("Host", "localhost:8080");
        for (target, more, is_right) in [
            ("/v1/events", &[("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Mode", "cors")][..], true),
            ("/", &[("Sec-Fetch-Site", "none"), ("Sec-Fetch-Mode", "navigate")], true),
            ("/", &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")], true),
            ("/", &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")], false),
            ("/v1/events", &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")], false),
            ("/v1/events", &[("Sec-Fetch-Site", "same-site"), ("Sec-Fetch-Mode", "cors")], false),
            ("/v1/events", &[("Origin", "http://localhost:8080")], true),
            ("/v1/events", &[("Origin", "http://localhost:3000")], false),
            ("/v1/events", &[("Origin", "null")], false),
        ] {
            assert_eq!(is_let_pass("GET", target, &[&[host], more].concat()), is_right, "{target} {more:?}");
        }
    }

    #[test]
    fn no_browser_changes_anything() {
        let host = ("Host", "localhost:8080");
        assert!(is_let_pass("POST", "/v1/rerun", &[("Host", "localhost")]));
        for header in [
            ("Origin", "http://localhost:8080"),
            ("Origin", "null"),
            ("Sec-Fetch-Site", "same-origin"),
            ("Sec-Fetch-Site", "cross-site"),
        ] {
            assert!(!is_let_pass("POST", "/v1/rerun", &[host, header]), "{header:?}");
        }
    }
}
