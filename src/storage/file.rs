//! Images in a folder, local or a mounted volume.
