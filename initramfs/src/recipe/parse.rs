//! From a recipe's text to what it says.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use towline_contract::Timestamp;
use towline_contract::agent::Agent;
use towline_contract::manifest::{Check, Compression, Kind, Part, Placement};

use super::level::level;
use super::variables::Variables;
use super::{Form, NumberedSource, Permissions, Place, Recipe, RecipeError, Source, Strip, track};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    kind: Kind,
    name: Spanned<String>,
    version: String,
    architecture: Option<String>,
    form: Option<Form>,
    compression: Option<Compression>,
    for_kernel: Option<Spanned<String>>,
    level: Option<Spanned<i32>>,
    placement: Option<Spanned<Placement>>,
    time: Option<Spanned<String>>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    plain: Vec<String>,
    #[serde(default)]
    from_earlier_layers: Vec<String>,
    #[serde(default)]
    replaceable: Vec<String>,
    #[serde(default)]
    agent: Option<Agent>,
    #[serde(default)]
    strip: Vec<Strip>,
    #[serde(default)]
    permissions: Vec<Spanned<Permissions>>,
    #[serde(default)]
    check: Vec<Check>,
    track: Option<Spanned<track::Table>>,
}

impl Raw {
    /// What the kind may not have is told before anything is built.
    fn check_parts(&self, at: &Place<'_>) -> Result<(), RecipeError> {
        let parts = [
            (Part::Agent, self.agent.is_some()),
            (Part::Checks, !self.check.is_empty()),
            (Part::Image, self.form == Some(Form::Image)),
            (Part::Replaceable, !self.replaceable.is_empty()),
        ];
        let mut there = parts.into_iter().filter(|(_, is_there)| *is_there);
        match there.find_map(|(part, _)| part.refusal(self.kind)) {
            Some(why) => Err(at.error(0, &format!("this {} layer is refused: {why}", self.kind))),
            None => Ok(()),
        }
    }

    /// Where the layer goes: into memory, if nothing else is said.
    fn placement(&self, at: &Place<'_>) -> Result<Placement, RecipeError> {
        let Some(given) = &self.placement else {
            return Ok(Placement::Ram);
        };
        match given.get_ref().refusal(self.kind) {
            Some(why) => Err(at.error(
                given.span().start,
                &format!("this {} layer is refused: {why}", self.kind),
            )),
            None => Ok(*given.get_ref()),
        }
    }
}

impl Recipe {
    /// The recipe in `text`, as if read from `path`.
    pub(super) fn parse_with(
        path: &Path,
        text: &str,
        variables: Variables<'_>,
    ) -> Result<Self, RecipeError> {
        let at = Place { path, text };
        let syntax = |cause: toml::de::Error| {
            at.error(cause.span().map_or(0, |span| span.start), cause.message())
        };
        let mut document = DeTable::parse(text).map_err(syntax)?;
        let source = document.get_mut().remove("source");
        let raw = Raw::deserialize(toml::Deserializer::from(document)).map_err(syntax)?;
        raw.check_parts(&at)?;
        let track = track::checked(raw.track.as_ref(), raw.kind, &at)?;
        let (variables, release) = match track.as_ref().and_then(|it| it.page.as_ref()) {
            Some(_) => variables.but_version(),
            None => (variables, None),
        };
        let placement = raw.placement(&at)?;
        let form = raw.form.unwrap_or(match raw.kind {
            Kind::Kernel | Kind::Base => Form::Image,
            _ => Form::Files,
        });
        let architecture = raw.architecture.unwrap_or_else(|| match raw.kind {
            Kind::Host | Kind::Credentials => "all".to_owned(),
            _ => "amd64".to_owned(),
        });
        let time = raw
            .time
            .map(|time| match time.get_ref().parse::<Timestamp>() {
                Ok(found) => Ok(found),
                Err(cause) => Err(at.error(time.span().start, &format!("time: {cause}"))),
            });
        let filled = |text: Spanned<String>| {
            let filled = variables.fill(text.get_ref());
            filled.map_err(|cause| at.error(text.span().start, &cause.to_string()))
        };
        let recipe = Self {
            path: path.to_owned(),
            kind: raw.kind,
            name: filled(raw.name)?,
            version: variables.fill_known(&raw.version),
            architecture,
            form,
            compression: raw.compression,
            for_kernel: raw.for_kernel.map(filled).transpose()?,
            placement,
            level: level(raw.level, form, raw.compression, &at)?,
            time: time.transpose()?,
            exclude: raw.exclude,
            include: raw.include,
            strip: raw.strip,
            plain: raw.plain,
            from_earlier_layers: raw.from_earlier_layers,
            programs: Vec::new(),
            replaceable: raw.replaceable,
            agent: raw.agent,
            session: None,
            sources: sources(source, variables, &at)?,
            permissions: permissions(raw.permissions, &at)?,
            checks: raw.check,
            track,
            release: None,
        };
        match variables {
            Variables::ButVersion(_) => recipe.with_page(release),
            _ => Ok(recipe),
        }
    }
}

fn permissions(
    given: Vec<Spanned<Permissions>>,
    at: &Place<'_>,
) -> Result<Vec<Permissions>, RecipeError> {
    let checked = given.into_iter().map(|it| match it.get_ref().check() {
        Ok(()) => Ok(it.into_inner()),
        Err(what) => Err(at.error(it.span().start, &what)),
    });
    checked.collect()
}

/// The sources in the array of tables that the recipe has. They keep their places in the text, for messages.
fn sources(
    array: Option<Spanned<DeValue<'_>>>,
    variables: Variables<'_>,
    at: &Place<'_>,
) -> Result<Vec<NumberedSource>, RecipeError> {
    let Some(array) = array else {
        return Ok(Vec::new());
    };
    let start = array.span().start;
    let DeValue::Array(tables) = array.into_inner() else {
        return Err(at.error(start, "`source` must be [[source]] tables"));
    };
    let mut sources = Vec::new();
    for (number, table) in (1..).zip(tables) {
        let line = at.line(table.span().start);
        let source = Source::parse(table, variables).map_err(|fault| RecipeError::Source {
            path: at.path.to_owned(),
            line,
            number,
            what: match fault.at.map(|offset| at.line(offset)) {
                Some(inner) if inner > line => format!("{} (line {inner})", fault.what),
                _ => fault.what,
            },
        })?;
        sources.push(NumberedSource {
            number,
            line,
            source,
        });
    }
    Ok(sources)
}
