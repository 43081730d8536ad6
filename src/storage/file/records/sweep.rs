use std::{ffi::CStr, io, time::SystemTime};

use super::{
    Found, Kept, Locked,
    name::{file_name, is_temporary, parse_record},
    read,
};
use crate::storage::{
    RecordError, RecordKey, SweptRecords,
    file::{
        expire::{LEFTOVER_AGE, since},
        folder::Folder,
    },
};

/// What is to happen to a file.
enum Verdict {
    Stays,
    Due,
    Leftover,
}

/// Removes the records of one kind that are due, and leftovers.
pub(super) fn sweep(kept: &Kept<'_>, now: SystemTime) -> Result<SweptRecords, RecordError> {
    let mut done = SweptRecords::default();
    let Some(folder) = kept.open()? else { return Ok(done) };
    let listed = folder.each_name(|name| {
        let swept = match (parse_record(name.to_bytes()), is_temporary(name.to_bytes())) {
            (Some(key), _) => record(&folder, &key, now, &mut done),
            (None, true) => temporary(&folder, name, now, &mut done),
            (None, false) => Ok(()),
        };
        if let Err(error) = swept {
            let path = folder.path().join(&*name.to_string_lossy());
            tracing::warn!(path = %path.display(), %error, "cannot be swept; the next cycle tries again");
            done.failed += 1;
        }
        Ok(())
    });
    listed.map_err(|error| kept.failed("list", error))?;
    Ok(done)
}

fn record(folder: &Folder, key: &RecordKey, now: SystemTime, done: &mut SweptRecords) -> io::Result<()> {
    let name = file_name(key);
    let Some(mut file) = folder.read(&name)? else { return Ok(()) };
    if matches!(verdict(&mut file, now)?, Verdict::Stays) {
        return Ok(());
    }
    // It may have been replaced since: only what is seen under the lock counts.
    let Some(mut locked) = Locked::open(folder, &name)? else { return Ok(()) };
    let verdict = verdict(&mut locked.file, now)?;
    if !matches!(verdict, Verdict::Stays) && folder.remove(&name)? {
        match verdict {
            Verdict::Leftover => done.swept += 1,
            _ => done.removed += 1,
        }
    }
    Ok(())
}

fn verdict(file: &mut std::fs::File, now: SystemTime) -> io::Result<Verdict> {
    Ok(match read(file, now.into())? {
        Found::Live(_) => Verdict::Stays,
        Found::Expired => Verdict::Due,
        Found::Damaged if since(now, file.metadata()?.modified()?) >= LEFTOVER_AGE => Verdict::Leftover,
        Found::Damaged => Verdict::Stays,
    })
}

fn temporary(folder: &Folder, name: &CStr, now: SystemTime, done: &mut SweptRecords) -> io::Result<()> {
    let Some(status) = folder.status(name)? else { return Ok(()) };
    if since(now, status.modified) >= LEFTOVER_AGE && folder.remove(name)? {
        done.swept += 1;
    }
    Ok(())
}
