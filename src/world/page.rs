//! What people look at: jobs and opcodes on a time axis, as one page of HTML that loads nothing
//! (design, section 15).
//!
//! The same page is served by the daemon, where it follows the feed, and written by `report` with
//! the events in it. Promises: nothing that a job, a hook or a node says becomes markup or code.
//! What is written here is escaped by the template; the script sets texts and no markup; and the
//! content security policy lets nothing run but that script, by its hash.

use std::io::{self, Write};
use std::sync::LazyLock;

use askama::Template;
use base64ct::{Base64, Encoding};
use ring::digest::{SHA256, digest};

use crate::world::journal::HistoryEvent;

/// How the page looks.
const STYLE: &str = include_str!("page/page.css");

/// What it does; one module.
const SCRIPT: &str = concat!(
    include_str!("page/model.js"),
    include_str!("page/draw.js"),
    include_str!("page/detail.js"),
    include_str!("page/feed.js"),
    include_str!("page/page.js"),
);

/// The page that follows the feed.
static LIVE: LazyLock<String> = LazyLock::new(|| {
    let page = Page { title: "Ganeti jobs", heading: "Ganeti jobs", place: "", now: None, is_file: false };
    page.to_string()
});

/// The page's texts, as a policy names them.
static HASHES: LazyLock<[String; 2]> = LazyLock::new(|| [STYLE, SCRIPT].map(hash));

/// What the page may do: `connect` is where its script may ask.
fn policy(connect: &str) -> String {
    let [style, script] = &*HASHES;
    format!(
        "default-src 'none'; script-src {script}; style-src {style}; img-src data:; connect-src {connect}; \
         base-uri 'none'; form-action 'none'"
    )
}

/// A text of the page, as a policy names it.
fn hash(text: &str) -> String {
    format!("'sha256-{}'", Base64::encode_string(digest(&SHA256, text.as_bytes()).as_ref()))
}

/// The page that a browser is given: it follows the feed.
pub fn live() -> &'static str {
    &LIVE
}

/// The headers that go with it.
pub fn headers() -> [(&'static str, String); 6] {
    let policy = policy("'self'") + "; frame-ancestors 'none'";
    [
        ("Content-Security-Policy", policy),
        ("Cross-Origin-Opener-Policy", "same-origin".to_owned()),
        ("Cross-Origin-Resource-Policy", "same-origin".to_owned()),
        ("Referrer-Policy", "no-referrer".to_owned()),
        ("X-Content-Type-Options", "nosniff".to_owned()),
        ("Cache-Control", "no-store".to_owned()),
    ]
}

/// The page's beginning; a file's goes on with its events.
#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    title: &'a str,
    heading: &'a str,
    place: &'a str,
    /// For a file, when it was written, in seconds since the epoch.
    now: Option<f64>,
    is_file: bool,
}

impl Page<'_> {
    fn style(&self) -> &'static str {
        STYLE
    }

    fn script(&self) -> &'static str {
        SCRIPT
    }

    fn policy(&self) -> String {
        policy("'none'")
    }
}

/// An event in a file: JSON that holds neither `<` nor `&`, and so cannot end the element that it
/// stands in.
#[derive(Template)]
#[template(source = "{{ record|json|safe }}\n", ext = "html")]
struct Line<R: serde::Serialize> {
    record: R,
}

/// A page as a file, which needs no daemon.
pub struct File<W> {
    out: W,
}

impl<W: Write> File<W> {
    /// Begins one: what it is of stands above it, and what is under way is drawn up to `now`, in
    /// seconds since the epoch.
    ///
    /// # Errors
    /// When the output fails.
    pub fn begin(mut out: W, title: &str, place: &str, now: f64) -> io::Result<Self> {
        let page = Page { title, heading: title, place, now: Some(now), is_file: true };
        page.write_into(&mut out)?;
        writeln!(out, "<script type=\"application/json\" id=\"events\">")?;
        Ok(Self { out })
    }

    /// Adds an event.
    ///
    /// # Errors
    /// When the output fails.
    pub fn event(&mut self, event: &HistoryEvent) -> io::Result<()> {
        Line { record: event.record() }.write_into(&mut self.out)
    }

    /// Ends it.
    ///
    /// # Errors
    /// When the output fails.
    pub fn end(mut self) -> io::Result<W> {
        writeln!(self.out, "</script>\n</body>\n</html>")?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_makes_no_markup_and_loads_nothing() {
        for name in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "import(",
        ] {
            assert!(!SCRIPT.contains(name), "{name}");
        }
        let without_names = SCRIPT.replace("http://www.w3.org/2000/svg", "");
        for text in [without_names.as_str(), STYLE] {
            assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("url("));
            // It would end the element, or begin a comment within it.
            assert!(!text.contains("</s") && !text.contains("<!--") && !text.contains("<script"));
        }
    }

    #[test]
    fn the_page_names_itself_in_its_policy() {
        let between = |begin: &str, end: &str| {
            let (_, rest) = live().split_once(begin).unwrap();
            rest.split_once(end).unwrap().0.to_owned()
        };
        let [(_, policy), ..] = headers();
        for (begin, end) in [("<style>", "</style>"), ("<script type=\"module\">", "</script>")] {
            assert!(policy.contains(&hash(&between(begin, end))), "{policy}");
        }
        assert!(
            policy.starts_with("default-src 'none';") && policy.contains("connect-src 'self';"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(live().ends_with("</body>\n</html>\n"), "it is complete");
    }
}
