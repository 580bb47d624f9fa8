//! The profiles of AWS's own tools: `~/.aws/credentials` and `~/.aws/config`.
//!
//! They stand behind the environment, as there: a variable that is set counts. What takes another program or a login to find out (SSO, roles, `credential_process`) is left to
//! `aws configure export-credentials`, and said.

use std::collections::BTreeMap;
use std::io::ErrorKind as IoErrorKind;
use std::path::PathBuf;

use ini::{Ini, ParseOption, Properties};
use runtree_core::{Error, Result};

use super::Settings;

/// What a profile says, and the variable that says the same.
const FIELDS: [(&str, &str); 5] = [
    ("aws_access_key_id", "AWS_ACCESS_KEY_ID"),
    ("aws_secret_access_key", "AWS_SECRET_ACCESS_KEY"),
    ("aws_session_token", "AWS_SESSION_TOKEN"),
    ("region", "AWS_REGION"),
    ("endpoint_url", "AWS_ENDPOINT_URL"),
];
/// The first of them that belong together.
const CREDENTIALS: usize = 3;
/// What leads to credentials by another way.
const OTHER_WAYS: [&str; 5] = [
    "sso_session",
    "sso_start_url",
    "role_arn",
    "credential_process",
    "web_identity_token_file",
];
/// Variables that lead to credentials by themselves.
const OTHER_VARIABLES: [&str; 3] = [
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// Settings with what the profile says and they do not. Without a home, and without names of files, there is no profile.
///
/// # Errors
/// `NotFound` if a profile is named and not there; `Invalid` if its file is none, or it says only where to ask for credentials.
pub(super) fn complete(settings: &Settings) -> Result<Settings> {
    let is_set = |name: &str| settings.get(name).is_some_and(|value| !value.is_empty());
    let mut completed = settings.clone();
    let named = ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"]
        .into_iter()
        .find(|name| is_set(name))
        .map(|name| settings[name].as_str());
    let profile = named.unwrap_or("default");
    let has_credentials =
        is_set("AWS_ACCESS_KEY_ID") || OTHER_VARIABLES.iter().any(|name| is_set(name));
    let Some(said) = read_profile(settings, profile)? else {
        return match named {
            Some(name) if !has_credentials => Err(Error::not_found(format!(
                "there is no profile {name:?} in {}",
                shown(settings)
            ))
            .with_hint(
                "aws configure list-profiles names those there are; AWS_PROFILE chooses one",
            )),
            _ => Ok(completed),
        };
    };
    if !has_credentials
        && !said.contains_key("aws_access_key_id")
        && let Some(way) = OTHER_WAYS.iter().find(|way| said.contains_key(**way))
    {
        return Err(Error::invalid(format!(
            "profile {profile:?} has no keys but {way}, which takes a login or another program"
        ))
        .with_hint(format!(
            "eval \"$(aws configure export-credentials --profile {profile} --format env)\""
        )));
    }
    let fields = if has_credentials {
        &FIELDS[CREDENTIALS..]
    } else {
        &FIELDS[..]
    };
    for (field, variable) in fields {
        let other = match *variable {
            "AWS_REGION" => "AWS_DEFAULT_REGION",
            "AWS_ENDPOINT_URL" => "AWS_ENDPOINT_URL_S3",
            same => same,
        };
        if let Some(value) = said.get(*field)
            && !is_set(variable)
            && !is_set(other)
        {
            completed.insert((*variable).to_owned(), value.clone());
        }
    }
    Ok(completed)
}

/// The two files, and how the section of a profile is called in each.
fn files(settings: &Settings) -> [(Option<PathBuf>, &'static str); 2] {
    let place = |variable: &str, name: &str| {
        let set = settings.get(variable).filter(|path| !path.is_empty());
        let home = settings.get("HOME").filter(|home| !home.is_empty());
        set.map(PathBuf::from)
            .or_else(|| home.map(|home| PathBuf::from(home).join(".aws").join(name)))
    };
    [
        (place("AWS_CONFIG_FILE", "config"), "profile "),
        (place("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ""),
    ]
}

fn shown(settings: &Settings) -> String {
    let paths = files(settings).map(|(path, _)| path);
    let shown: Vec<String> = paths
        .iter()
        .flatten()
        .map(|path| path.display().to_string())
        .collect();
    if shown.is_empty() {
        "~/.aws: HOME is not set".to_owned()
    } else {
        shown.join(" or ")
    }
}

/// What both files say of a profile, the credentials' last word; none if neither knows it.
fn read_profile(settings: &Settings, profile: &str) -> Result<Option<BTreeMap<String, String>>> {
    let mut said = None;
    for (path, prefix) in files(settings) {
        let Some(path) = path else { continue };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == IoErrorKind::NotFound => continue,
            Err(error) => {
                return Err(
                    Error::denied(format!("can not read {}", path.display())).with_source(error)
                );
            }
        };
        let options = ParseOption {
            enabled_escape: false,
            enabled_quote: false,
            enabled_indented_mutiline_value: true,
            ..ParseOption::default()
        };
        let file = Ini::load_from_str_opt(&text, options).map_err(|error| {
            Error::invalid(format!("{} is no file of profiles", path.display())).with_source(error)
        })?;
        let names = [format!("{prefix}{profile}"), profile.to_owned()];
        // In the config file only the default profile goes without the word.
        let names = if prefix.is_empty() || profile == "default" {
            &names[..]
        } else {
            &names[..1]
        };
        let section: Option<&Properties> = names.iter().find_map(|name| file.section(Some(name)));
        for (field, value) in section.into_iter().flat_map(Properties::iter) {
            let said: &mut BTreeMap<_, _> = said.get_or_insert_default();
            said.insert(field.trim().to_owned(), value.trim().to_owned());
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtree_core::ErrorKind;

    fn with(home: &std::path::Path, variables: &[(&str, &str)]) -> Result<Settings> {
        let mut settings: Settings = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        settings.insert("HOME".to_owned(), home.display().to_string());
        complete(&settings)
    }

    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(home.path().join(".aws").join(name), text).unwrap();
        };
        write(
            "credentials",
            "[default]\naws_access_key_id = AKDEFAULT\naws_secret_access_key=a/b+c=\"d\\n\n\n[lab]\naws_access_key_id=AKLAB\naws_secret_access_key=s\naws_session_token=t\n",
        );
        write(
            "config",
            "# of the lab\n[default]\nregion = eu-north-1\n[profile lab]\nregion=us-west-2\nendpoint_url = http://127.0.0.1:9000\ns3 =\n  addressing_style = path\n[profile sso]\nsso_session = us\nregion = us-east-1\n",
        );
        home
    }

    #[test]
    fn profiles_stand_behind_the_environment() {
        let home = home();
        let default = with(home.path(), &[]).unwrap();
        assert_eq!(default["AWS_ACCESS_KEY_ID"], "AKDEFAULT");
        assert_eq!(default["AWS_SECRET_ACCESS_KEY"], "a/b+c=\"d\\n");
        assert_eq!(default["AWS_REGION"], "eu-north-1");
        let lab = with(home.path(), &[("AWS_PROFILE", "lab")]).unwrap();
        assert_eq!(lab["AWS_ACCESS_KEY_ID"], "AKLAB");
        assert_eq!(lab["AWS_SESSION_TOKEN"], "t");
        assert_eq!(lab["AWS_ENDPOINT_URL"], "http://127.0.0.1:9000");
        // A key of the environment goes with its own secret, never with a profile's token.
        let mixed = [
            ("AWS_PROFILE", "lab"),
            ("AWS_ACCESS_KEY_ID", "AKENV"),
            ("AWS_SECRET_ACCESS_KEY", "env"),
            ("AWS_DEFAULT_REGION", "ap-south-1"),
        ];
        let mixed = with(home.path(), &mixed).unwrap();
        assert_eq!(mixed["AWS_ACCESS_KEY_ID"], "AKENV");
        assert!(!mixed.contains_key("AWS_SESSION_TOKEN"));
        assert!(!mixed.contains_key("AWS_REGION"));
        assert_eq!(mixed["AWS_ENDPOINT_URL"], "http://127.0.0.1:9000");
    }

    #[test]
    fn what_can_not_be_had_from_a_file_is_said() {
        let home = home();
        let error = with(home.path(), &[("AWS_PROFILE", "nobody")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = with(home.path(), &[("AWS_PROFILE", "sso")]).unwrap_err();
        assert!(error.message().contains("sso_session"), "{error}");
        let keys = [("AWS_PROFILE", "sso"), ("AWS_ACCESS_KEY_ID", "AKENV")];
        assert_eq!(with(home.path(), &keys).unwrap()["AWS_REGION"], "us-east-1");
        std::fs::write(home.path().join(".aws/config"), "[default\nregion").unwrap();
        let error = with(home.path(), &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        // No files, no profile: an instance's role may serve.
        assert_eq!(complete(&Settings::new()).unwrap(), Settings::new());
    }
}
