//! What SQLite writes to its log while it commits, until it is all there.

/// Bytes of the header of a page in the log (SQLite: "The WAL file format", 4.1).
const FRAME_HEADER: usize = 24;

/// Where a frame's header says how many pages the database has after the commit, if this is its last frame; else zero.
const SIZE_AFTER_COMMIT: std::ops::Range<usize> = 4..8;

/// From so many bytes on they are written at once, commit or not.
const LIMIT: usize = 64 * 1024;

/// Frames that follow each other and are yet to be written.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Which commit they are of.
    commit: u64,
    /// Whether this commit's are gathered: not those of a transaction that wrote before its `COMMIT`, which
    /// SQLite may go back to (`walRewriteChecksums`).
    is_gathering: bool,
    /// Whether something was written outside of a commit since the last one.
    has_spilled: bool,
    /// Where the first of them goes.
    offset: i64,
    bytes: Vec<u8>,
    /// Whether the last header was that of a commit's last frame.
    is_last: bool,
}

impl Gathered {
    /// Something is written, in this commit or in none. Whatever an earlier one has left behind was
    /// given up with it.
    pub fn begin(&mut self, commit: Option<u64>) {
        let Some(commit) = commit else {
            self.has_spilled = true;
            self.is_gathering = false;
            self.clear();
            return;
        };
        if commit != self.commit {
            self.clear();
            self.commit = commit;
            self.is_gathering = !std::mem::take(&mut self.has_spilled);
        }
    }

    /// Keeps a header, or a page that follows one. Returns whether it did.
    pub fn keep(&mut self, data: &[u8], offset: i64) -> bool {
        let is_header = data.len() == FRAME_HEADER;
        let follows = match self.bytes.len() {
            0 => is_header,
            length => {
                i64::try_from(length).is_ok_and(|length| self.offset.checked_add(length) == Some(offset))
            }
        };
        if !self.is_gathering || !follows || self.bytes.len() >= LIMIT {
            return false;
        }
        if self.bytes.is_empty() {
            self.offset = offset;
        }
        if is_header {
            self.is_last = data[SIZE_AFTER_COMMIT] != [0; 4];
        }
        self.bytes.extend_from_slice(data);
        true
    }

    /// Whether the commit's last page is there: readers are told of it next. What else SQLite may write before
    /// that, to fill a sector or because frames have changed, is not gathered.
    pub fn is_complete(&mut self, last: &[u8]) -> bool {
        let is_complete = self.is_last && last.len() != FRAME_HEADER;
        self.is_gathering &= !is_complete;
        is_complete
    }

    /// What is to be written, and where.
    pub fn frames(&self) -> Option<(&[u8], i64)> {
        (!self.bytes.is_empty()).then_some((&self.bytes, self.offset))
    }

    /// It has been written, or given up.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.is_last = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: [u8; 512] = [1; 512];

    fn header(size_after: u8) -> [u8; FRAME_HEADER] {
        let mut header = [0; FRAME_HEADER];
        header[SIZE_AFTER_COMMIT][3] = size_after;
        header
    }

    #[test]
    fn a_commit_is_complete_with_the_page_of_its_last_frame() {
        let mut gathered = Gathered::default();
        gathered.begin(Some(1));
        assert!(gathered.keep(&header(0), 32) && gathered.keep(&PAGE, 56) && !gathered.is_complete(&PAGE));
        assert!(gathered.keep(&header(7), 568) && !gathered.is_complete(&header(7)));
        assert!(gathered.keep(&PAGE, 592) && gathered.is_complete(&PAGE));
        let (frames, offset) = gathered.frames().unwrap();
        assert_eq!((frames.len(), offset), (2 * (FRAME_HEADER + PAGE.len()), 32));
        gathered.clear();
        assert!(gathered.frames().is_none() && !gathered.is_complete(&PAGE));
        assert!(!gathered.keep(&header(7), 1104), "what follows the last frame");
    }

    #[test]
    fn what_does_not_follow_is_not_kept() {
        let mut gathered = Gathered::default();
        gathered.begin(Some(1));
        assert!(!gathered.keep(&[0; 32], 0), "the header of the log");
        assert!(!gathered.keep(&PAGE, 32), "a page without its header");
        assert!(gathered.keep(&header(0), 32));
        assert!(
            !gathered.keep(&header(0), 32) && !gathered.keep(&PAGE, 57) && !gathered.keep(&PAGE, i64::MAX)
        );
        assert!(gathered.keep(&PAGE, 56));
    }

    #[test]
    fn what_a_commit_leaves_behind_is_given_up() {
        let mut gathered = Gathered::default();
        gathered.begin(Some(1));
        gathered.keep(&header(0), 32);
        gathered.begin(Some(1));
        assert!(gathered.frames().is_some());
        gathered.begin(Some(2));
        assert!(gathered.frames().is_none());
        gathered.keep(&header(0), 32);
        gathered.begin(None);
        assert!(gathered.frames().is_none());
    }

    #[test]
    fn a_transaction_that_wrote_before_its_commit_is_not_gathered() {
        let mut gathered = Gathered::default();
        gathered.begin(None);
        assert!(!gathered.keep(&header(0), 32), "in no commit");
        gathered.begin(Some(1));
        assert!(!gathered.keep(&header(0), 32), "in the commit of the same");
        gathered.begin(Some(2));
        assert!(gathered.keep(&header(0), 32));
    }

    #[test]
    fn not_more_is_kept_than_the_limit_and_a_page() {
        let mut gathered = Gathered::default();
        gathered.begin(Some(1));
        let mut offset = 32;
        while gathered.keep(&header(0), offset) && gathered.keep(&PAGE, offset + 24) {
            offset += 24 + 512;
        }
        let length = gathered.frames().unwrap().0.len();
        assert!((LIMIT..LIMIT + 24 + 512).contains(&length), "{length}");
    }
}
