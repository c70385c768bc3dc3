//! The sandbox: limits on system calls (seccomp(2)) and on files (landlock(7)), for any user.

use std::{collections::BTreeMap, env::consts::ARCH, io, os::fd::BorrowedFd};

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};
use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

/// System calls of a running translator: for packets, clocks, memory, netlink, messages, and the
/// thread and the files of its leases.
#[rustfmt::skip]
const TRANSLATOR_CALLS: &[libc::c_long] = &[
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64,
    libc::SYS_pwrite64, libc::SYS_lseek, libc::SYS_close, libc::SYS_fcntl, libc::SYS_ioctl,
    libc::SYS_dup, libc::SYS_flock,
    libc::SYS_ppoll, libc::SYS_clock_gettime, libc::SYS_clock_nanosleep, libc::SYS_nanosleep,
    libc::SYS_gettimeofday, libc::SYS_restart_syscall, libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_brk, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_rseq, libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getpid, libc::SYS_gettid, libc::SYS_tgkill, libc::SYS_kill, libc::SYS_getrandom,
    libc::SYS_prctl,
    libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid, libc::SYS_uname,
    libc::SYS_socket, libc::SYS_connect, libc::SYS_bind, libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_recvfrom, libc::SYS_recvmsg,
    libc::SYS_accept4, libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_shutdown, libc::SYS_memfd_create,
    libc::SYS_openat, libc::SYS_newfstatat, libc::SYS_fstat, libc::SYS_statx, libc::SYS_fstatfs,
    libc::SYS_statfs, libc::SYS_getdents64, libc::SYS_readlinkat, libc::SYS_faccessat,
    libc::SYS_getcwd, libc::SYS_umask,
    libc::SYS_unlinkat, libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_mkdirat,
    libc::SYS_fchown, libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_ftruncate,
    libc::SYS_fallocate,
    // Of the workers.
    libc::SYS_epoll_pwait, libc::SYS_epoll_ctl, libc::SYS_wait4,
    libc::SYS_clone3, // where programs are denied, a second filter refuses it
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
];

/// System calls to run another program, such as nft(8), and those of that program besides.
#[rustfmt::skip]
const PROGRAM_CALLS: &[libc::c_long] = &[
    libc::SYS_execve, libc::SYS_clone, libc::SYS_waitid, libc::SYS_pipe2,
    libc::SYS_dup3, libc::SYS_set_tid_address, libc::SYS_prlimit64, libc::SYS_socketpair,
    libc::SYS_setpgid, libc::SYS_chdir, libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal,
    libc::SYS_close_range, libc::SYS_getppid, libc::SYS_sysinfo, libc::SYS_capget,
    libc::SYS_rt_sigtimedwait, libc::SYS_pselect6, libc::SYS_epoll_create1, libc::SYS_sendmmsg, libc::SYS_recvmmsg,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pipe,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
];

/// Permission to run other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Programs {
    Allowed,
    Denied,
}

/// Restricts this process, and those that it starts, to the system calls of a translator. All
/// others fail with EPERM. The process must have set no_new_privs before (prctl(2)).
pub(crate) fn restrict_calls(programs: Programs) -> io::Result<()> {
    let mut allowed: BTreeMap<libc::c_long, Vec<SeccompRule>> = TRANSLATOR_CALLS
        .iter()
        .map(|&call| (call, Vec::new()))
        .collect();
    match programs {
        Programs::Allowed => allowed.extend(PROGRAM_CALLS.iter().map(|&call| (call, Vec::new()))),
        Programs::Denied => {
            allowed.insert(
                libc::SYS_clone,
                vec![is_thread().map_err(io::Error::other)?],
            );
            // The arguments of clone3(2) are in memory, which no filter can read. The C library
            // uses clone(2) if clone3(2) fails with ENOSYS.
            let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
            let missing = SeccompAction::Errno(libc::ENOSYS as u32);
            load_filter(clone3, missing, SeccompAction::Allow)?;
        }
    }
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    load_filter(allowed, SeccompAction::Allow, refused)
}

/// The condition that clone(2) starts a thread, not a process.
fn is_thread() -> Result<SeccompRule, BackendError> {
    let thread = libc::CLONE_THREAD as u64;
    let equal = SeccompCmpOp::MaskedEq(thread);
    let flags = SeccompCondition::new(0, SeccompCmpArgLen::Qword, equal, thread)?;
    SeccompRule::new(vec![flags])
}

/// Loads a filter: `on_match` for the system calls that `rules` match, `otherwise` for all others.
fn load_filter(
    rules: BTreeMap<libc::c_long, Vec<SeccompRule>>,
    on_match: SeccompAction,
    otherwise: SeccompAction,
) -> io::Result<()> {
    let arch = ARCH.try_into().map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, otherwise, on_match, arch).map_err(io::Error::other)?;
    let program = BpfProgram::try_from(filter).map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

/// Restricts files: below `writable` they may be created, changed and removed, in each `removable`
/// only removed, and none may be executed. Returns whether the kernel enforces it: Linux 5.13 or
/// later does, unless landlock is disabled.
pub(crate) fn restrict_files(
    writable: Option<BorrowedFd<'_>>,
    removable: &[BorrowedFd<'_>],
) -> io::Result<bool> {
    let abi = ABI::V3; // kinds of access that an older kernel does not know are left out
    let writes: BitFlags<AccessFs> = AccessFs::from_write(abi);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writes | AccessFs::Execute)
        .and_then(Ruleset::create)
        .map_err(io::Error::other)?;
    let removes = AccessFs::RemoveFile.into();
    let removable = removable.iter().map(|&at| (at, removes));
    for (directory, access) in writable.map(|at| (at, writes)).into_iter().chain(removable) {
        let beneath = PathBeneath::new(directory, access);
        ruleset = ruleset.add_rule(beneath).map_err(io::Error::other)?;
    }
    let status = ruleset.restrict_self().map_err(io::Error::other)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::{
        fs::{self, File},
        os::fd::AsFd,
        process::Command,
        thread,
    };

    use nix::sys::prctl;

    use super::*;

    fn errno<T>(result: io::Result<T>) -> Option<i32> {
        result.err().and_then(|error| error.raw_os_error())
    }

    /// A sandbox applies to the thread that enters it and to those that it starts.
    #[test]
    fn other_system_calls_are_refused() {
        thread::spawn(|| {
            prctl::set_no_new_privs().unwrap();
            restrict_calls(Programs::Denied).unwrap();
            assert_eq!(errno(Command::new("/bin/true").status()), Some(libc::EPERM));
            assert_eq!(
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS),
                Err(nix::errno::Errno::EPERM)
            );
            assert_eq!(nix::unistd::chroot("/"), Err(nix::errno::Errno::EPERM));
            let thread = thread::spawn(|| errno(Command::new("/bin/true").status()));
            assert_eq!(thread.join().unwrap(), Some(libc::EPERM));
            fs::read("/proc/self/status").unwrap();
        })
        .join()
        .unwrap();
    }

    #[test]
    fn programs_run_where_allowed() {
        thread::spawn(|| {
            prctl::set_no_new_privs().unwrap();
            restrict_calls(Programs::Allowed).unwrap();
            assert!(Command::new("/bin/true").status().unwrap().success());
            assert_eq!(nix::unistd::chroot("/"), Err(nix::errno::Errno::EPERM));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn files_are_written_only_where_allowed() {
        let directory = std::env::temp_dir().join(format!("xlatd-{}", std::process::id()));
        for name in ["leases", "run", "other"] {
            fs::create_dir_all(directory.join(name)).unwrap();
            fs::write(directory.join(name).join("old"), "").unwrap();
        }
        let at = directory.clone();
        let enforced = thread::spawn(move || {
            prctl::set_no_new_privs().unwrap();
            let [leases, run] = ["leases", "run"].map(|name| File::open(at.join(name)).unwrap());
            if !restrict_files(Some(leases.as_fd()), &[run.as_fd()]).unwrap() {
                return false;
            }
            let write = |name: &str| errno(fs::write(at.join(name), "x"));
            assert_eq!(write("leases/new"), None);
            assert_eq!(write("run/new"), Some(libc::EACCES));
            assert_eq!(write("other/new"), Some(libc::EACCES));
            assert_eq!(errno(fs::remove_file(at.join("run/old"))), None);
            assert_eq!(
                errno(fs::remove_file(at.join("other/old"))),
                Some(libc::EACCES)
            );
            fs::read(at.join("other/old")).unwrap();
            true
        });
        let enforced = enforced.join().unwrap();
        fs::remove_dir_all(&directory).unwrap();
        // Where REQUIRE_NETNS forbids to skip tests, the kernel must support landlock.
        assert!(enforced || std::env::var_os("REQUIRE_NETNS").is_none());
    }
}
