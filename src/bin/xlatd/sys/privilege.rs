//! Who the process is, and what it may do (credentials(7), capabilities(7)).

use std::{io, path::Path};

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use nix::{
    sys::prctl,
    unistd::{
        Gid, Group, Uid, User, chdir, chroot, getegid, geteuid, getgroups, getresgid, getresuid,
        setgroups, setresgid, setresuid,
    },
};

/// Who the process is to become. What is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: Option<Uid>,
    pub(crate) gid: Option<Gid>,
}

/// The user of this name or number, and its group; a number that is no user's has none.
pub(crate) fn user(name: &str) -> io::Result<Option<(Uid, Option<Gid>)>> {
    if let Some(user) = User::from_name(name)? {
        return Ok(Some((user.uid, Some(user.gid))));
    }
    let Some(uid) = number(name).map(Uid::from_raw) else {
        return Ok(None);
    };
    Ok(Some((uid, User::from_uid(uid)?.map(|user| user.gid))))
}

/// The group of this name or number.
pub(crate) fn group(name: &str) -> io::Result<Option<Gid>> {
    if let Some(group) = Group::from_name(name)? {
        return Ok(Some(group.gid));
    }
    Ok(number(name).map(Gid::from_raw))
}

/// The highest number is nobody's: to the kernel it says that nothing is to change.
fn number(name: &str) -> Option<u32> {
    name.parse().ok().filter(|&number| number != u32::MAX)
}

/// Whether the process is root's.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// Whether the process is root's, and goes on to be.
pub(crate) fn stays_root(identity: Identity) -> bool {
    identity.uid.unwrap_or_else(geteuid).is_root()
}

/// Whether the process can become somebody, or is them already.
pub(crate) fn can_become(identity: Identity) -> bool {
    geteuid().is_root()
        || identity.uid.is_none_or(|uid| uid == geteuid())
            && identity.gid.is_none_or(|gid| gid == getegid())
}

/// Makes `directory` the root of all paths.
pub(crate) fn enter(directory: &Path) -> io::Result<()> {
    chroot(directory)?;
    chdir("/")?;
    Ok(())
}

/// Gives up for good what the process may do, but for `kept` of what it could: identity, supplementary groups,
/// capabilities, and the way back by a program with a set-user-ID bit. Then looks whether
/// it is so, and says how it is.
pub(crate) fn give_up(identity: Identity, kept: &[Capability]) -> io::Result<String> {
    let permitted = caps::read(None, CapSet::Permitted).map_err(other)?;
    let kept = kept.iter().copied();
    let kept: CapsHashSet = kept.filter(|one| permitted.contains(one)).collect();

    // Whom it may concern is asked while there is the right to: the bounding set, then groups, and the user at last.
    let bounds = permitted.contains(&Capability::CAP_SETPCAP);
    if bounds {
        caps::clear(None, CapSet::Bounding).map_err(other)?;
    }
    if identity != Identity::default() && permitted.contains(&Capability::CAP_SETGID) {
        setgroups(&[])?;
    }
    if let Some(gid) = identity.gid {
        setresgid(gid, gid, gid)?;
    }
    if let Some(uid) = identity.uid {
        prctl::set_keepcaps(true)?; // or none would be left to keep
        setresuid(uid, uid, uid)?;
        prctl::set_keepcaps(false)?;
    }
    // The ambient set loses what is not inheritable.
    caps::clear(None, CapSet::Inheritable).map_err(other)?;
    caps::clear(None, CapSet::Effective).map_err(other)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(other)?;
    caps::set(None, CapSet::Effective, &kept).map_err(other)?;
    prctl::set_no_new_privs()?;

    let (uids, gids) = (getresuid()?, getresgid()?);
    let is_user = |uid| [uids.real, uids.effective, uids.saved] == [uid; 3];
    let is_group = |gid| [gids.real, gids.effective, gids.saved] == [gid; 3];
    let has = |set| caps::read(None, set).map_err(other);
    let none = CapsHashSet::new();
    if has(CapSet::Permitted)? != kept
        || has(CapSet::Effective)? != kept
        || has(CapSet::Inheritable)? != none
        || has(CapSet::Ambient)? != none
        || bounds && has(CapSet::Bounding)? != none
        || identity != Identity::default() && !getgroups()?.is_empty()
        || !identity.uid.is_none_or(is_user)
        || !identity.gid.is_none_or(is_group)
        || !prctl::get_no_new_privs()?
    {
        return Err(io::Error::other("the kernel says that it was not done"));
    }
    let mut names: Vec<_> = kept.iter().map(ToString::to_string).collect();
    names.sort();
    Ok(format!(
        "user {}, group {}, with {}",
        uids.real,
        gids.real,
        match &*names {
            [] => "no capabilities".to_owned(),
            names => names.join(" and "),
        }
    ))
}

/// Gives up for good what the process and those that it starts may do, but for `kept` of what it could. It stays who it is.
pub(crate) fn confine(kept: &[Capability]) -> io::Result<()> {
    let permitted = caps::read(None, CapSet::Permitted).map_err(other)?;
    let kept = kept.iter().copied();
    let kept: CapsHashSet = kept.filter(|one| permitted.contains(one)).collect();
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for one in caps::read(None, CapSet::Bounding).map_err(other)? {
            if !kept.contains(&one) {
                caps::drop(None, CapSet::Bounding, one).map_err(other)?;
            }
        }
    }
    caps::set(None, CapSet::Effective, &kept).map_err(other)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(other)?;
    caps::set(None, CapSet::Inheritable, &kept).map_err(other)?;
    prctl::set_no_new_privs()?;
    Ok(())
}

fn other(error: CapsError) -> io::Error {
    io::Error::other(error)
}
