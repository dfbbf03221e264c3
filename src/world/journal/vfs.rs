//! How the log of the journal is written: all pages of a commit by one write(2).
//!
//! SQLite writes each page that a commit changes by two calls, its header and itself, one behind the other: 18 to 30 calls
//! that a hook waits for. So the journal is opened through a VFS that is
//! the system's own in all but the log's file (SQLite: "The SQLite OS Interface"): while `COMMIT` runs
//! ([`committing`]) it gathers what is written there, up to the last frame, which says that it is, and which
//! SQLite writes before it tells any reader of the commit (`walFrames`, then `walIndexWriteHdr`). An error of that
//! write is the commit's. Anything that is out of this order is written as it comes.

mod gathered;

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::null;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::ffi::{
    SQLITE_IOERR, SQLITE_OK, SQLITE_OPEN_WAL, sqlite3_file, sqlite3_io_methods, sqlite3_vfs,
    sqlite3_vfs_find, sqlite3_vfs_register,
};

use gathered::Gathered;

const NAME: &CStr = c"ganeti-hookd";

thread_local! {
    /// The commit that this thread is in.
    static COMMIT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs a `COMMIT`, whose pages are gathered.
pub fn committing<T>(commit: impl FnOnce() -> T) -> T {
    static COMMITS: AtomicU64 = AtomicU64::new(1);
    struct Over;
    impl Drop for Over {
        fn drop(&mut self) {
            COMMIT.set(None);
        }
    }
    COMMIT.set(Some(COMMITS.fetch_add(1, Ordering::Relaxed)));
    let _over = Over;
    commit()
}

/// What ours calls.
struct Ours {
    system: *mut sqlite3_vfs,
    /// Where in a file our part begins, in bytes.
    part: usize,
}

// SAFETY: SQLite's own VFS is there as long as the process, and is for all threads.
#[expect(unsafe_code, reason = "a pointer to what does not change")]
unsafe impl Send for Ours {}
// SAFETY: the same.
#[expect(unsafe_code, reason = "a pointer to what does not change")]
unsafe impl Sync for Ours {}

static OURS: OnceLock<Option<Ours>> = OnceLock::new();

/// Its name; `None` where SQLite has none that ours could be, and then a journal is written as SQLite does.
pub fn name() -> Option<&'static CStr> {
    OURS.get_or_init(register).as_ref().map(|_| NAME)
}

/// Our part of a log's file, behind that of the system's VFS.
struct Part {
    methods: *const sqlite3_io_methods,
    gathered: Gathered,
}

fn register() -> Option<Ours> {
    // SAFETY: the system's VFS is copied, and the copy, which stays for ever, has another name, longer files and
    // another way to open them. Its functions take it for the system's own: what they read of it is the same.
    #[expect(unsafe_code, reason = "SQLite's interface is that of C")]
    unsafe {
        let system = sqlite3_vfs_find(null());
        let copied = system.as_ref()?;
        let part = usize::try_from(copied.szOsFile).ok()?.next_multiple_of(align_of::<Part>());
        let mut ours = *copied;
        ours.szOsFile = c_int::try_from(part + size_of::<Part>()).ok()?;
        ours.zName = NAME.as_ptr();
        ours.xOpen = Some(open);
        let registered = sqlite3_vfs_register(Box::leak(Box::new(ours)), 0);
        (registered == SQLITE_OK).then_some(Ours { system, part })
    }
}

/// Our part of a file that [`open`] has made one of ours.
fn part(file: *mut sqlite3_file) -> *mut Part {
    let part = OURS.get().and_then(Option::as_ref).map_or(0, |ours| ours.part);
    file.wrapping_byte_add(part).cast()
}

#[expect(unsafe_code, reason = "SQLite's interface is that of C")]
unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    path: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    opened: *mut c_int,
) -> c_int {
    // SAFETY: as SQLite has called us; and where the log was opened, our part of the file is made.
    unsafe {
        (*file).pMethods = null();
        let Some(ours) = OURS.get().and_then(Option::as_ref) else { return SQLITE_IOERR };
        let Some(system_open) = (*ours.system).xOpen else { return SQLITE_IOERR };
        let result = system_open(ours.system, path, file, flags, opened);
        if result == SQLITE_OK && flags & SQLITE_OPEN_WAL != 0 {
            let part = Part { methods: (*file).pMethods, gathered: Gathered::default() };
            self::part(file).write(part);
            (*file).pMethods = &raw const METHODS;
        }
        result
    }
}

/// Calls the system's function of this name for a file of ours.
macro_rules! system {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        // SAFETY: as SQLite has called us.
        #[expect(unsafe_code, reason = "SQLite's interface is that of C")]
        unsafe {
            match (*(*part($file)).methods).$method {
                Some(method) => method($file $(, $argument)*),
                None => SQLITE_IOERR,
            }
        }
    }};
}

/// Writes what is gathered, and then calls the system's function of this name.
macro_rules! after_writing {
    ($name:ident, $method:ident $(, $argument:ident: $type:ty)*) => {
        #[expect(unsafe_code, reason = "SQLite's interface is that of C")]
        unsafe extern "C" fn $name(file: *mut sqlite3_file $(, $argument: $type)*) -> c_int {
            match write_gathered(file) {
                SQLITE_OK => system!(file, $method $(, $argument)*),
                error => error,
            }
        }
    };
}

after_writing!(read, xRead, data: *mut c_void, length: c_int, offset: i64);
after_writing!(truncate, xTruncate, size: i64);
after_writing!(sync, xSync, flags: c_int);
after_writing!(size, xFileSize, size: *mut i64);
after_writing!(lock, xLock, level: c_int);
after_writing!(unlock, xUnlock, level: c_int);
after_writing!(is_reserved, xCheckReservedLock, result: *mut c_int);
after_writing!(control, xFileControl, operation: c_int, argument: *mut c_void);

/// Calls the system's function of this name, which answers with a number and not with a result.
macro_rules! as_the_system {
    ($name:ident, $method:ident) => {
        #[expect(unsafe_code, reason = "SQLite's interface is that of C")]
        unsafe extern "C" fn $name(file: *mut sqlite3_file) -> c_int {
            system!(file, $method)
        }
    };
}

as_the_system!(sector_size, xSectorSize);
as_the_system!(characteristics, xDeviceCharacteristics);

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    // What came later is for the database's file.
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(is_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

#[expect(unsafe_code, reason = "SQLite's interface is that of C")]
unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let result = system!(file, xClose);
    // SAFETY: the file is of no use after this, and nothing else drops our part of it.
    unsafe { part(file).drop_in_place() };
    result
}

#[expect(unsafe_code, reason = "SQLite's interface is that of C")]
unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    data: *const c_void,
    length: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: SQLite has so many bytes there, and calls for a file one after the other.
    let (gathered, bytes) = unsafe {
        let length = usize::try_from(length).unwrap_or_default();
        (&mut (*part(file)).gathered, std::slice::from_raw_parts(data.cast::<u8>(), length))
    };
    gathered.begin(COMMIT.get());
    if gathered.keep(bytes, offset) {
        return if gathered.is_complete(bytes) { write_gathered(file) } else { SQLITE_OK };
    }
    match write_gathered(file) {
        SQLITE_OK => system!(file, xWrite, data, length, offset),
        error => error,
    }
}

/// Writes what is gathered. Should that fail it is given up: the commit has failed.
fn write_gathered(file: *mut sqlite3_file) -> c_int {
    // SAFETY: who calls this was given the file by SQLite, which calls for it one after the other; the system's
    // function does not know of our part.
    #[expect(unsafe_code, reason = "SQLite's interface is that of C")]
    let gathered = unsafe { &mut (*part(file)).gathered };
    let Some((bytes, offset)) = gathered.frames() else { return SQLITE_OK };
    let length = c_int::try_from(bytes.len()).unwrap_or_default();
    let result = system!(file, xWrite, bytes.as_ptr().cast(), length, offset);
    gathered.clear();
    result
}

#[cfg(test)]
mod tests;
