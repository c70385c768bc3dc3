
#[doc(hidden)]
#[allow(missing_docs, clippy::all)]
pub fn mutant(number: usize) -> bool {
    use std::sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    };
    static CHOSEN: LazyLock<usize> = LazyLock::new(|| {
        std::env::var("MUTANT").map_or(0, |number| number.parse().expect("a number"))
    });
    static LOG: LazyLock<Option<std::ffi::OsString>> =
        LazyLock::new(|| std::env::var_os("MUTANTS_REACHED"));
    static REACHED: [AtomicBool; MUTANT_COUNT] = [const { AtomicBool::new(false) }; MUTANT_COUNT];
    if let Some(log) = &*LOG
        && !REACHED[number].swap(true, Ordering::Relaxed)
    {
        use std::io::Write;
        let file = std::fs::OpenOptions::new().append(true).create(true).open(log);
        let line = format!("{number}\n");
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("a log");
    }
    *CHOSEN == number
}
