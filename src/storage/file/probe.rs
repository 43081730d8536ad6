use std::{
    io::{self, Write},
    os::unix::fs::FileExt,
};

use uuid::Uuid;

use super::{Shared, failed, folder::Folder, make_base};
use crate::storage::Error;

/// Whole blocks, so that a full disk says so.
const PROBE: [u8; 4096] = [0x5a; 4096];

/// Writes, reads and deletes a small file.
pub(super) fn probe(shared: &Shared) -> Result<(), Error> {
    let name = format!(".probe-{}", Uuid::now_v7().simple());
    let probed = || -> io::Result<()> {
        let base = match Folder::open(&shared.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_base(&shared.path)?;
                Folder::open(&shared.path)?
            }
            opened => opened?,
        };
        let mut file = base.create_new(&name)?;
        let passed = file.write_all(&PROBE).and_then(|()| {
            let mut read = [0; PROBE.len()];
            file.read_exact_at(&mut read, 0)?;
            if read == PROBE {
                Ok(())
            } else {
                Err(io::Error::other("what was read is not what was written"))
            }
        });
        let removed = base.remove(&name);
        passed?;
        removed?;
        Ok(())
    };
    probed().map_err(|error| failed("write, read and delete a file in", &shared.path, error))
}

/// Whether this is the name of a probe.
pub(super) fn is_probe(name: &[u8]) -> bool {
    name.strip_prefix(b".probe-")
        .is_some_and(|id| id.len() == 32 && id.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_name_is_recognised_exactly() {
        assert!(is_probe(b".probe-0123456789abcdef0123456789abcdef"));
        for name in [".probe-", ".probe-0123456789abcdef0123456789abcdeF", "probe-x", ".probe-notes"] {
            assert!(!is_probe(name.as_bytes()), "{name}");
        }
    }
}
