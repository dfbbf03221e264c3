//! The table of metrics in `docs/metrics.md` is made from their one definition:
//! `GENERATE=1 cargo test --test monitoring` writes it anew.

use std::fs;
use std::path::Path;

use ganeti_hookd::engine::metrics::{FAMILIES, PREFIX};

const BEGIN: &str = "<!-- made from src/engine/metrics/families.rs -->\n";
const END: &str = "<!-- end -->\n";

#[test]
fn the_table_of_metrics_is_that_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(BEGIN).unwrap();
    let (table, tail) = rest.split_once(END).unwrap();
    let mut made = String::from("| metric | kind | tells |\n|---|---|---|\n");
    for family in FAMILIES {
        let labels =
            if family.labels.is_empty() { String::new() } else { format!("{{{}}}", family.labels.join(",")) };
        made +=
            &format!("| `{PREFIX}{}{labels}` | {} | {} |\n", family.name, family.kind.as_str(), family.help);
    }
    if std::env::var_os("GENERATE").is_some() {
        return fs::write(&path, format!("{head}{BEGIN}{made}{END}{tail}")).unwrap();
    }
    assert!(table == made, "docs/metrics.md is out of date: GENERATE=1 cargo test --test monitoring");
}
