//! The text of the program in memory (proc_pid_maps(5), madvise(2)).

use std::{ffi::c_void, fs, io, num::NonZero, ops::Range, ptr::NonNull};

use nix::sys::mman::{MmapAdvise, madvise};

/// Lets go of the program's text, of which what is run comes back page by page: a daemon that has
/// started needs little of it, and the rest would count as its memory.
pub(crate) fn let_go() -> io::Result<()> {
    let program = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    for Range { start, end } in texts(&maps, &program.to_string_lossy()) {
        let Some(address) = NonZero::new(start) else {
            continue;
        };
        let address = NonNull::<c_void>::with_exposed_provenance(address);
        // SAFETY: the range is a mapping of this process, which nobody unmaps: that of its own
        // text. It cannot be written, so that each page is that of the file, and is read from there
        // again when it is used.
        unsafe { madvise(address, end - start, MmapAdvise::MADV_DONTNEED) }?;
    }
    Ok(())
}

/// The mappings of a file that can be run, and not written.
fn texts<'a>(maps: &'a str, file: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
    maps.lines().filter_map(move |line| {
        let mut words = line.split_ascii_whitespace();
        let (range, access) = (words.next()?, words.next()?);
        if access != "r-xp" || words.nth(3)? != file {
            return None;
        }
        let (start, end) = range.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        Some(address(start)?..address(end)?)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn only_the_text_of_the_program_is_found() {
        let maps = "\
            1000-2000 r--p 00000000 fe:00 7 /usr/sbin/xlatd\n\
            2000-5000 r-xp 00001000 fe:00 7 /usr/sbin/xlatd\n\
            5000-6000 rw-p 00004000 fe:00 7 /usr/sbin/xlatd\n\
            7000-8000 r-xp 00000000 fe:00 8 /usr/lib/libc.so.6\n\
            9000-a000 r-xp 00000000 00:00 0\n";
        let mut found = texts(maps, "/usr/sbin/xlatd");
        assert_eq!(found.next(), Some(0x2000..0x5000));
        assert_eq!(found.next(), None);
    }

    /// What was let go is not in memory any more, and still runs.
    #[test]
    fn what_is_let_go_comes_back() {
        let resident = || {
            let text = fs::read_to_string("/proc/self/status").unwrap();
            let line = text.lines().find(|line| line.starts_with("RssFile:"));
            let words = line.unwrap().split_whitespace().nth(1);
            words.unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        let_go().unwrap();
        let after = resident();
        assert!(after < before, "{before} kB before, {after} kB after");
    }
}
