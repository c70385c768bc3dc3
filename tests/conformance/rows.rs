//! A row: one requirement, and the test that proves it.

/// How strongly a requirement is worded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Must,
    Should,
    /// There is no keyword, but translation does not work without it.
    Derived,
}

/// Makes a `#[test]` of each row, and the list of their names.
///
/// ```text
/// x46_23 Must "RFC 7915 4.2" => function_that_proves_it,
/// g_04 Must "RFC 7915 4.6" unproven "the reason why no packet can show it",
/// ```
///
/// The second kind is no test: it keeps the reason beside the rule. The row is printed first, which
/// the test harness shows if the test fails.
macro_rules! rows {
    ($(
        $name:ident $level:ident $source:literal
        $(=> $test:ident)? $(unproven $reason:literal)?
    ),+ $(,)?) => {
        pub(crate) const ROWS: &[&str] = &[$(stringify!($name)),+];

        $(
            $crate::rows::row!($name $level $source $(=> $test)? $(unproven $reason)?);
        )+
    };
}
pub(crate) use rows;

/// The test of a row, if it has one.
macro_rules! row {
    ($name:ident $level:ident $source:literal => $test:ident) => {
        #[test]
        fn $name() {
            let level = $crate::rows::Level::$level;
            println!("{} ({level:?}, {})", stringify!($name), $source);
            $test();
        }
    };
    ($name:ident $level:ident $source:literal unproven $reason:literal) => {
        const _: ($crate::rows::Level, &str) = ($crate::rows::Level::$level, $reason);
    };
}
pub(crate) use row;
