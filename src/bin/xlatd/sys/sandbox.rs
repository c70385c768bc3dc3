//! What the process can still ask the kernel for (seccomp(2)), and write to (landlock(7)), whoever it is.

use std::{collections::BTreeMap, env::consts::ARCH, io, os::fd::BorrowedFd};

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus,
};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// What a translator at work asks for: packets, clocks, memory, netlink, messages, a thread for its leases and files for them.
#[rustfmt::skip]
const AT_WORK: &[libc::c_long] = &[
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64, libc::SYS_pwrite64,
    libc::SYS_lseek, libc::SYS_close, libc::SYS_fcntl, libc::SYS_ioctl, libc::SYS_dup, libc::SYS_flock,
    libc::SYS_ppoll, libc::SYS_clock_gettime, libc::SYS_clock_nanosleep, libc::SYS_nanosleep, libc::SYS_gettimeofday,
    libc::SYS_restart_syscall, libc::SYS_sched_yield, libc::SYS_sched_getaffinity,
    libc::SYS_brk, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise,
    libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_rseq, libc::SYS_exit, libc::SYS_exit_group,
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_sigaltstack,
    libc::SYS_getpid, libc::SYS_gettid, libc::SYS_tgkill, libc::SYS_kill, libc::SYS_getrandom, libc::SYS_prctl,
    libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid, libc::SYS_uname,
    libc::SYS_socket, libc::SYS_connect, libc::SYS_bind, libc::SYS_getsockname, libc::SYS_getpeername,
    libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_recvfrom, libc::SYS_recvmsg,
    libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_shutdown, libc::SYS_memfd_create,
    libc::SYS_openat, libc::SYS_newfstatat, libc::SYS_fstat, libc::SYS_statx, libc::SYS_fstatfs, libc::SYS_statfs,
    libc::SYS_getdents64, libc::SYS_readlinkat, libc::SYS_faccessat, libc::SYS_getcwd, libc::SYS_umask,
    libc::SYS_unlinkat, libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_mkdirat, libc::SYS_fchown,
    libc::SYS_fsync, libc::SYS_fdatasync, libc::SYS_ftruncate, libc::SYS_fallocate,
    libc::SYS_clone3, // answered by the other filter
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
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

/// What it takes to run another program, such as nft(8), and what that asks for besides.
#[rustfmt::skip]
const TO_RUN_PROGRAMS: &[libc::c_long] = &[
    libc::SYS_execve, libc::SYS_clone, libc::SYS_wait4, libc::SYS_waitid, libc::SYS_pipe2, libc::SYS_dup3,
    libc::SYS_set_tid_address, libc::SYS_prlimit64, libc::SYS_socketpair, libc::SYS_setpgid, libc::SYS_chdir,
    libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_close_range, libc::SYS_getppid, libc::SYS_sysinfo,
    libc::SYS_capget, libc::SYS_rt_sigtimedwait, libc::SYS_pselect6, libc::SYS_epoll_create1, libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait, libc::SYS_sendmmsg, libc::SYS_recvmmsg,
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

/// From now on only what a translator asks the kernel for is answered, and all else is refused (EPERM); also for what it
/// starts, which it only can if it `runs_programs`. No new privileges must have been given up before (prctl(2)).
pub(crate) fn confine_calls(runs_programs: bool) -> io::Result<()> {
    let mut allowed: BTreeMap<libc::c_long, Vec<SeccompRule>> =
        AT_WORK.iter().map(|&call| (call, Vec::new())).collect();
    if runs_programs {
        allowed.extend(TO_RUN_PROGRAMS.iter().map(|&call| (call, Vec::new())));
    } else {
        // Threads, and no processes. The C library asks by clone3(2) first, whose arguments no filter sees.
        let thread = libc::CLONE_THREAD as u64;
        let is_thread = SeccompCondition::new(
            0,
            SeccompCmpArgLen::Qword,
            SeccompCmpOp::MaskedEq(thread),
            thread,
        );
        let is_thread = is_thread.and_then(|condition| SeccompRule::new(vec![condition]));
        allowed.insert(libc::SYS_clone, vec![is_thread.map_err(io::Error::other)?]);
        let ask_otherwise = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
        let missing = SeccompAction::Errno(libc::ENOSYS as u32);
        load(ask_otherwise, SeccompAction::Allow, missing)?;
    }
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    load(allowed, refused, SeccompAction::Allow)
}

fn load(
    rules: BTreeMap<libc::c_long, Vec<SeccompRule>>,
    others: SeccompAction,
    these: SeccompAction,
) -> io::Result<()> {
    let arch = ARCH.try_into().map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, others, these, arch).map_err(io::Error::other)?;
    let program = BpfProgram::try_from(filter).map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

/// From now on no file is made, changed or removed but below `writable`, or removed in `emptied`, and none is executed.
/// Whether the kernel sees to it: Linux 5.13 and later do, where it is not turned off.
pub(crate) fn confine_files(
    writable: Option<BorrowedFd<'_>>,
    emptied: Option<BorrowedFd<'_>>,
) -> io::Result<bool> {
    let abi = ABI::V3; // the kinds of access that files have; what a kernel does not know is left out
    let writes: BitFlags<AccessFs> = AccessFs::from_write(abi);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writes | AccessFs::Execute)
        .and_then(Ruleset::create)
        .map_err(io::Error::other)?;
    let removes = AccessFs::RemoveFile.into();
    let rules = [(writable, writes), (emptied, removes)];
    for (directory, access) in rules
        .into_iter()
        .filter_map(|(at, access)| Some((at?, access)))
    {
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

    /// In a thread, which is what a sandbox is for; those that it starts are in it, too.
    #[test]
    fn what_is_forbidden_is_refused() {
        thread::spawn(|| {
            prctl::set_no_new_privs().unwrap();
            confine_calls(false).unwrap();
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
    fn programs_are_run_where_they_have_to_be() {
        thread::spawn(|| {
            prctl::set_no_new_privs().unwrap();
            confine_calls(true).unwrap();
            assert!(Command::new("/bin/true").status().unwrap().success());
            assert_eq!(nix::unistd::chroot("/"), Err(nix::errno::Errno::EPERM));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn files_are_written_where_they_may_be() {
        let directory = std::env::temp_dir().join(format!("xlatd-{}", std::process::id()));
        for name in ["leases", "run", "other"] {
            fs::create_dir_all(directory.join(name)).unwrap();
            fs::write(directory.join(name).join("old"), "").unwrap();
        }
        let at = directory.clone();
        let enforced = thread::spawn(move || {
            prctl::set_no_new_privs().unwrap();
            let [leases, run] = ["leases", "run"].map(|name| File::open(at.join(name)).unwrap());
            if !confine_files(Some(leases.as_fd()), Some(run.as_fd())).unwrap() {
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
        // Where the tests may leave nothing out, the kernel has it.
        assert!(enforced || std::env::var_os("REQUIRE_NETNS").is_none());
    }
}
