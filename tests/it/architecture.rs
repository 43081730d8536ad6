//! The map is true: the rooms use each other only as ARCHITECTURE.md says, and the paths that it
//! names exist.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Which rooms a room may use. `secret`, `problem` and `request` are leaves that anyone may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("image", &[]),
    ("secret", &[]),
    ("admission", &[]),
    ("problem", &[]),
    ("request", &[]),
    ("storage", &["image"]),
    ("predictor", &["image"]),
    ("generate", &["admission", "predictor", "storage", "image"]),
    ("mcp", &["generate", "predictor", "storage", "image"]),
    ("api", &["generate", "predictor", "storage", "image"]),
    ("images", &["admission", "storage", "image"]),
    ("gallery", &[]),
    ("cleaner", &["storage", "image"]),
    ("admin", &["storage", "image"]),
    ("health", &["generate", "predictor", "storage"]),
    ("metrics", &[]),
    ("telemetry", &[]),
    ("banner", &["predictor"]),
];
/// The rooms that know every other one: wiring and edges.
const WIRING: &[&str] = &["app", "stack", "serve", "rescue", "config", "cli", "main", "lib"];
const LEAVES: &[&str] = &["secret", "problem", "request"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The rooms that a source text uses, by `crate::room` and by `use crate::{room, ...}`.
fn rooms_used(source: &str) -> BTreeSet<String> {
    let code: String = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut rooms = BTreeSet::new();
    for (start, _) in code.match_indices("crate::") {
        // `$crate::` and `other_crate::` are not ours.
        if code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[start + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            rooms.extend(first_names(list));
        } else {
            rooms.extend(leading_name(rest));
        }
    }
    rooms
}

fn leading_name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// The names at the top level of a `{...}` list that was opened just before `list`.
fn first_names(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut at_start) = (0_usize, true);
    for (index, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            c if at_start && !c.is_whitespace() => {
                names.extend(leading_name(&list[index..]));
                at_start = false;
            }
            _ => {}
        }
    }
    names
}

#[test]
fn rooms_use_each_other_only_along_the_arrows() {
    let source = root().join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    assert!(files.len() > 20, "the sources are where this test looks");
    let mut wrong = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&source).expect("below src");
        let first = inside.components().next().expect("a room").as_os_str().to_string_lossy();
        let room = first.trim_end_matches(".rs").to_owned();
        if WIRING.contains(&room.as_str()) {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
            wrong.push(format!("{room}: a room without arrows in this test"));
            continue;
        };
        let text = fs::read_to_string(&file).expect("readable");
        for used in rooms_used(&text) {
            let fine = used == room || LEAVES.contains(&used.as_str()) || allowed.contains(&used.as_str());
            if !fine {
                wrong.push(format!("{} uses {used}", inside.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn layers_know_nothing_of_the_server() {
    let mut files = Vec::new();
    rust_files(&root().join("layers/src"), &mut files);
    assert!(!files.is_empty());
    for file in files {
        let text = fs::read_to_string(&file).expect("readable");
        assert!(!text.contains("mcp_image_server"), "{}", file.display());
    }
}

#[test]
fn paths_named_in_the_map_exist() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let paths: Vec<_> = map
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.contains('/') && !code.starts_with('/') && !code.contains([' ', '<', ':', '{']))
        .collect();
    assert!(paths.len() > 15, "the map names its paths in backticks: {paths:?}");
    for path in paths {
        assert!(root().join(path.trim_end_matches('/')).exists(), "{path} is on the map but not in the tree");
    }
}

#[test]
fn names_of_rooms_used_are_found_in_every_form() {
    let used = rooms_used(
        "use crate::image::Format;\nuse crate::{\n    storage::{Error, ImageStore},\n    generate,\n};\n// crate::mcp\nlet x = crate::api::Y; $crate::z!();",
    );
    assert_eq!(used.into_iter().collect::<Vec<_>>(), ["api", "generate", "image", "storage"]);
}
