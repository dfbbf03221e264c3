//! The stack of a child that shares our memory: a piece of memory of its own in each thread that
//! starts scripts, and below it a page that nobody may touch. A child that needs more than there is
//! dies of it; without that page it would write over what lies there.

use std::cell::OnceCell;
use std::ffi::c_void;
use std::io;
use std::ptr;

use rustix::param::page_size;

/// The bytes of a child's stack. Its few functions need less than a kilobyte.
const SIZE: usize = 16 * 1024;

/// A stack and the page below it.
#[derive(Debug)]
pub struct Stack {
    /// Where the page begins.
    bottom: *mut c_void,
    /// The length of both, in bytes.
    length: usize,
}

thread_local! {
    static STACK: OnceCell<Stack> = const { OnceCell::new() };
}

impl Stack {
    /// The top of this thread's one, from which it grows downwards. It stays as long as the thread.
    ///
    /// # Errors
    /// When there is no memory to be had.
    pub fn of_this_thread() -> io::Result<*mut c_void> {
        STACK.with(|cell| {
            if let Some(stack) = cell.get() {
                return Ok(stack.top());
            }
            let stack = Self::new()?;
            Ok(cell.get_or_init(|| stack).top())
        })
    }

    /// A stack that no thread has.
    ///
    /// # Errors
    /// When there is no memory to be had.
    pub fn new() -> io::Result<Self> {
        let length = page_size() + SIZE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: a new mapping at a place that the kernel chooses, of which the part above the
        // first page is made usable; nobody else knows it.
        #[expect(unsafe_code, reason = "memory that is no value of Rust's")]
        unsafe {
            let bottom = libc::mmap(ptr::null_mut(), length, libc::PROT_NONE, flags, -1, 0);
            if bottom == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            // Given back should the next call fail.
            let stack = Self { bottom, length };
            let usable = bottom.byte_add(page_size());
            match libc::mprotect(usable, SIZE, libc::PROT_READ | libc::PROT_WRITE) {
                0 => Ok(stack),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }

    /// From where it grows downwards.
    pub fn top(&self) -> *mut c_void {
        self.bottom.wrapping_byte_add(self.length)
    }
}

// SAFETY: the memory is no thread's own; who has the value has it.
#[expect(unsafe_code, reason = "pointers are no thread's own")]
unsafe impl Send for Stack {}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: it is the mapping that `new` made, and whoever ran on it has become another
        // program or has ended: that was waited for.
        #[expect(unsafe_code, reason = "memory that is no value of Rust's")]
        unsafe {
            libc::munmap(self.bottom, self.length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The permissions of the mapping that an address is in.
    fn permissions(address: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let is_in = |range: &str| {
            let (begin, end) = range.split_once('-').unwrap();
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            (number(begin)..number(end)).contains(&address)
        };
        let line = maps.lines().find(|line| is_in(line.split(' ').next().unwrap())).unwrap();
        line.split(' ').nth(1).unwrap().to_owned()
    }

    #[test]
    fn below_the_stack_is_a_page_that_nobody_may_touch() {
        let top = Stack::of_this_thread().unwrap();
        let bottom = top as usize - SIZE;
        assert_eq!([bottom, bottom + SIZE - 1].map(permissions), ["rw-p", "rw-p"]);
        assert_eq!([bottom - 1, bottom - page_size()].map(permissions), ["---p", "---p"]);
        assert_eq!(Stack::of_this_thread().unwrap(), top, "one a thread");
        let other = || std::thread::spawn(|| Stack::of_this_thread().unwrap() as usize).join().unwrap();
        assert_ne!(other(), top as usize);
    }
}
