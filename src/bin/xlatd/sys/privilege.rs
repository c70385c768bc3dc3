//! The identity and the capabilities of the process (credentials(7), capabilities(7)).

use std::{io, path::Path};

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use nix::{
    sys::prctl,
    unistd::{
        Gid, Group, Uid, User, chdir, chroot, getegid, geteuid, getgid, getgroups, getresgid,
        getresuid, getuid, setgroups, setresgid, setresuid,
    },
};

/// The user and the group to run as. `None` keeps the current one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: Option<Uid>,
    pub(crate) gid: Option<Gid>,
}

/// Looks up a user by name or number, and its group. A number that is no user's has no group.
pub(crate) fn user(name: &str) -> io::Result<Option<(Uid, Option<Gid>)>> {
    if let Some(user) = User::from_name(name)? {
        return Ok(Some((user.uid, Some(user.gid))));
    }
    let Some(uid) = number(name).map(Uid::from_raw) else {
        return Ok(None);
    };
    Ok(Some((uid, User::from_uid(uid)?.map(|user| user.gid))))
}

/// Looks up a group by name or number.
pub(crate) fn group(name: &str) -> io::Result<Option<Gid>> {
    if let Some(group) = Group::from_name(name)? {
        return Ok(Some(group.gid));
    }
    Ok(number(name).map(Gid::from_raw))
}

/// Parses a user or group ID. The highest one is invalid: to setresuid(2) it means no change.
fn number(name: &str) -> Option<u32> {
    name.parse().ok().filter(|&number| number != u32::MAX)
}

/// Whether the process runs as root.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// Whether the process runs as root once it has changed to `identity`.
pub(crate) fn stays_root(identity: Identity) -> bool {
    identity.uid.unwrap_or_else(geteuid).is_root()
}

/// Whether the process may change to `identity`, or has it already.
pub(crate) fn can_become(identity: Identity) -> bool {
    geteuid().is_root()
        || identity.uid.is_none_or(|uid| uid == geteuid())
            && identity.gid.is_none_or(|gid| gid == getegid())
}

/// Makes `directory` the root directory (chroot(2)).
pub(crate) fn enter_chroot(directory: &Path) -> io::Result<()> {
    chroot(directory)?;
    chdir("/")?;
    Ok(())
}

/// Drops privileges for good, and returns the remaining ones in words.
///
/// Changes to `identity`, leaves all supplementary groups, and keeps those capabilities of `kept`
/// that the process has. With no_new_privs, no program with a set-user-ID bit can regain any.
/// Fails if the kernel did not apply all of this.
pub(crate) fn drop_to(identity: Identity, kept: &[Capability]) -> io::Result<String> {
    let permitted = read(CapSet::Permitted)?;
    let kept = intersection(&permitted, kept);
    // In this order: clearing the bounding set takes CAP_SETPCAP, and leaving groups CAP_SETGID,
    // and both are lost with the user ID.
    let clears_bounding = permitted.contains(&Capability::CAP_SETPCAP);
    if clears_bounding {
        caps::clear(None, CapSet::Bounding).map_err(other)?;
    }
    change_identity(identity, permitted.contains(&Capability::CAP_SETGID))?;
    // Clearing the inheritable set clears the ambient set, too.
    caps::clear(None, CapSet::Inheritable).map_err(other)?;
    caps::clear(None, CapSet::Effective).map_err(other)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(other)?;
    caps::set(None, CapSet::Effective, &kept).map_err(other)?;
    prctl::set_no_new_privs()?;
    if !has_identity(identity)? || !has_only(&kept, clears_bounding)? {
        return Err(io::Error::other("the kernel did not apply all changes"));
    }
    in_words()
}

/// User, group and capabilities of the process, in words.
pub(crate) fn in_words() -> io::Result<String> {
    let permitted = read(CapSet::Permitted)?;
    let mut names: Vec<_> = permitted.iter().map(ToString::to_string).collect();
    names.sort();
    let capabilities = match &*names {
        [] => "no capabilities".to_owned(),
        _ if permitted == caps::all() => "all capabilities".to_owned(),
        names => names.join(" and "),
    };
    let (user, group) = (getuid(), getgid());
    Ok(format!("user {user}, group {group}, with {capabilities}"))
}

/// Changes to `identity`, and leaves all supplementary groups if the process may.
fn change_identity(identity: Identity, may_set_groups: bool) -> io::Result<()> {
    if identity != Identity::default() && may_set_groups {
        setgroups(&[])?;
    }
    if let Some(gid) = identity.gid {
        setresgid(gid, gid, gid)?;
    }
    if let Some(uid) = identity.uid {
        prctl::set_keepcaps(true)?; // otherwise the change of user clears the permitted set
        setresuid(uid, uid, uid)?;
        prctl::set_keepcaps(false)?;
    }
    Ok(())
}

/// Whether the process has `identity`, and no supplementary groups besides.
fn has_identity(identity: Identity) -> io::Result<bool> {
    let (uids, gids) = (getresuid()?, getresgid()?);
    let is_user = |uid| [uids.real, uids.effective, uids.saved] == [uid; 3];
    let is_group = |gid| [gids.real, gids.effective, gids.saved] == [gid; 3];
    Ok(identity.uid.is_none_or(is_user)
        && identity.gid.is_none_or(is_group)
        && (identity == Identity::default() || getgroups()?.is_empty()))
}

/// Whether the process has the capabilities of `kept`, and can gain no others.
fn has_only(kept: &CapsHashSet, bounding_is_cleared: bool) -> io::Result<bool> {
    Ok(read(CapSet::Permitted)? == *kept
        && read(CapSet::Effective)? == *kept
        && read(CapSet::Inheritable)?.is_empty()
        && read(CapSet::Ambient)?.is_empty()
        && (!bounding_is_cleared || read(CapSet::Bounding)?.is_empty())
        && prctl::get_no_new_privs()?)
}

/// Limits the capabilities of this process and of those that it starts, for good, to those of
/// `kept` that the process has. Its identity stays.
pub(crate) fn limit_capabilities(kept: &[Capability]) -> io::Result<()> {
    let permitted = read(CapSet::Permitted)?;
    let kept = intersection(&permitted, kept);
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for dropped in read(CapSet::Bounding)?.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *dropped).map_err(other)?;
        }
    }
    caps::set(None, CapSet::Effective, &kept).map_err(other)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(other)?;
    caps::set(None, CapSet::Inheritable, &kept).map_err(other)?;
    prctl::set_no_new_privs()?;
    Ok(())
}

fn read(set: CapSet) -> io::Result<CapsHashSet> {
    caps::read(None, set).map_err(other)
}

fn intersection(permitted: &CapsHashSet, kept: &[Capability]) -> CapsHashSet {
    let kept = kept.iter().copied();
    kept.filter(|one| permitted.contains(one)).collect()
}

fn other(error: CapsError) -> io::Error {
    io::Error::other(error)
}
