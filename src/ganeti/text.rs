//! Text from elsewhere: made plain and cut before it goes any further.

use std::fmt::Write as _;

/// A text as one line that says nothing to a terminal, of about `max` bytes at most.
pub fn plain(text: &str, max: usize) -> String {
    if text.len() <= max && text.chars().all(is_plain) {
        return text.to_owned();
    }
    let mut line = String::new();
    for c in text.chars() {
        if line.len() >= max {
            line.push_str("...");
            break;
        }
        if is_plain(c) {
            line.push(c);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(line, "{}", c.escape_default());
        }
    }
    line
}

/// Whether a character is one of a line's text: it says nothing to a terminal, and does not have
/// what stands around it shown in another order (Unicode: `Bidi_Control`).
pub fn is_plain(c: char) -> bool {
    let is_end_of_line = matches!(c, '\u{2028}' | '\u{2029}');
    let orders =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !is_end_of_line && !orders
}

/// A text of several lines, each of them plain.
pub fn plain_lines(text: &str, max: usize) -> String {
    text.lines().map(|line| plain(line, max)).collect::<Vec<_>>().join("\n")
}

/// Cuts a text to `max` bytes or a little less, never inside of a character. Returns how many
/// bytes were cut off.
pub fn cut(text: &mut String, max: usize) -> u64 {
    let kept = (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let dropped = text.len() - kept;
    text.truncate(kept);
    dropped as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_one_plain_line() {
        assert_eq!(plain("a\nb\u{1b}[31m\u{202e}ünï", 100), "a\\nb\\u{1b}[31m\\u{202e}ünï");
        assert_eq!(plain("\u{61c}\u{200e}\u{2066}x\u{2069}", 100), "\\u{61c}\\u{200e}\\u{2066}x\\u{2069}");
        assert_eq!(plain("four", 4), "four");
        assert_eq!(plain("fours", 4), "four...");
        assert!(plain(&"\n".repeat(1_000_000), 100).len() < 120);
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(plain_lines("a\u{1b}[2J\n\tb\r\nfours\n", 4), "a\\u{1b}...\n\\tb\nfour...");
    }

    #[test]
    fn a_cut_is_between_characters() {
        let mut text = "aü€".to_owned();
        assert_eq!((cut(&mut text, 6), text.as_str()), (0, "aü€"));
        assert_eq!((cut(&mut text, 5), text.as_str()), (3, "aü"));
        assert_eq!((cut(&mut text, 2), text.as_str()), (2, "a"));
        assert_eq!((cut(&mut text, 0), text.as_str()), (1, ""));
    }
}
