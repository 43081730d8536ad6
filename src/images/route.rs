use crate::image::{Format, ImageId};

/// What a path under `/images` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `/images` or `/images/`: all of them.
    Collection,
    /// `/images/{id}` or `/images/{id}.{ext}`.
    Image {
        /// The image's id.
        id: ImageId,
        /// The format that the extension names, if there is one. Only a format's own extension
        /// counts, so that an image has two URLs at most.
        format: Option<Format>,
    },
    /// Nothing that can be there.
    Unknown,
}

impl Route {
    /// Reads a path as it was sent: percent-encoded spellings of an id are other paths.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let Some(rest) = path.strip_prefix("/images") else { return Self::Unknown };
        if rest.is_empty() || rest == "/" {
            return Self::Collection;
        }
        rest.strip_prefix('/').and_then(image).unwrap_or(Self::Unknown)
    }
}

/// Bytes of an id's text.
const ID_LENGTH: usize = uuid::fmt::Hyphenated::LENGTH;

fn image(name: &str) -> Option<Route> {
    let (id, rest) = name.split_at_checked(ID_LENGTH)?;
    let format = match rest.strip_prefix('.') {
        Some(extension) => Some(Format::ALL.into_iter().find(|format| format.extension() == extension)?),
        None if rest.is_empty() => None,
        None => return None,
    };
    Some(Route::Image { id: id.parse().ok()?, format })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_an_image_names_it() {
        let id = ImageId::now();
        assert_eq!(Route::of(&format!("/images/{id}")), Route::Image { id, format: None });
        for format in Format::ALL {
            let path = format!("/images/{id}.{}", format.extension());
            assert_eq!(Route::of(&path), Route::Image { id, format: Some(format) });
        }
    }

    #[test]
    fn path_of_all_images_is_the_collection() {
        assert_eq!(Route::of("/images"), Route::Collection);
        assert_eq!(Route::of("/images/"), Route::Collection);
    }

    #[test]
    fn other_paths_name_nothing() {
        let id = ImageId::now();
        for path in [
            String::new(),
            "/".to_owned(),
            "/imagesx".to_owned(),
            "/images//".to_owned(),
            format!("/images{id}"),
            format!("/images//{id}"),
            format!("/images/{id}/"),
            format!("/images/{id}."),
            format!("/images/{id}.jpeg"),
            format!("/images/{id}.PNG"),
            format!("/images/{id}.json"),
            format!("/images/{id}.png.png"),
            format!("/images/{id}%2epng"),
            format!("/images/../images/{id}"),
            format!("/images/{}", id.to_string().to_uppercase()),
            "/images/..".to_owned(),
            "/images/%00".to_owned(),
        ] {
            assert_eq!(Route::of(&path), Route::Unknown, "{path}");
        }
    }
}
