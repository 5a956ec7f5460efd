//! The registry of backbones. A new one is a file with a [`BackboneSpec`] and a [`Family`], and one
//! line in the list below.

use super::conventions::{Conventions, DilationRule, LowLevel, PaddingRule};
use super::layer::Builder;
use super::resnet::ResNet;
use super::spec::{BackboneSpec, Family, Features};
use crate::error::{Error, Result, error};
use crate::graph::{Scope, ValueId};
use serde::{Deserialize, Serialize};

/// Defines [`Backbone`] and the registry from a list of types and their modules.
macro_rules! registry {
    ($($(#[$doc:meta])* $net:ident($module:ident),)*) => {
        /// The feature extractor. Each variant is built in the module of its name.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Backbone {
            $($(#[$doc])* $net(super::$module::$net),)*
        }

        impl Backbone {
            fn spec(&self) -> &dyn BackboneSpec {
                match self {
                    $(Self::$net(net) => net,)*
                }
            }

            /// Returns the family.
            pub fn family(&self) -> &'static Family {
                match self {
                    $(Self::$net(_) => &super::$module::FAMILY,)*
                }
            }
        }

        static REGISTRY: &[Registered] = &[$(Registered {
            family: &super::$module::FAMILY,
            parse: |name| super::$module::$net::parse(name).map(Backbone::$net),
        },)*];
    };
}

registry! {
    /// MobileNetV2 with any width multiplier.
    MobileNetV2(mobilenet_v2),
    /// MobileNetV3-Large.
    MobileNetV3(mobilenet_v3),
    /// ResNet-18 to -152, ResNeXt, Wide-ResNet and SE-ResNet.
    ResNet(resnet),
    /// Modified Aligned Xception-41, -65 or -71.
    Xception(xception),
}

struct Registered {
    family: &'static Family,
    parse: fn(&str) -> Option<Backbone>,
}

impl Backbone {
    /// Creates a ResNet with the standard 7x7 stem.
    ///
    /// # Errors
    /// Returns an error if `depth` is not 18, 34, 50, 101 or 152.
    pub fn resnet(depth: usize) -> Result<Self> {
        Ok(Backbone::ResNet(ResNet::new(depth)?))
    }

    /// Returns the families of backbones.
    pub fn families() -> impl Iterator<Item = &'static Family> {
        REGISTRY.iter().map(|registered| registered.family)
    }

    /// Returns the names that [`Backbone::named`] accepts, except for those that only a description
    /// covers ([`Family::more_names`]).
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::families().flat_map(|family| family.names).copied()
    }

    /// Returns the backbone of a name: one of [`Backbone::names`], or `mobilenet_v2_W` with a width
    /// multiplier, such as `mobilenet_v2_0.5`.
    ///
    /// # Errors
    /// Returns an error that lists the known names if `name` is unknown.
    pub fn named(name: &str) -> Result<Self> {
        REGISTRY.iter().find_map(|registered| (registered.parse)(name)).ok_or_else(|| {
            let more = Self::families().filter_map(|family| family.more_names);
            let names: Vec<&str> = Self::names().collect();
            let all = std::iter::once(names.join(", ")).chain(more.map(str::to_owned));
            error!(Usage, "unknown backbone `{name}`")
                .advice(format!("use one of {}", all.collect::<Vec<_>>().join(", or ")))
        })
    }

    /// Returns the display name, such as `ResNet-50`.
    pub fn title(&self) -> String {
        self.spec().title()
    }

    /// Returns the multi-grid of the code that trained the paper's networks.
    pub(super) fn paper_multi_grid(&self) -> Vec<usize> {
        self.spec().paper_multi_grid()
    }

    /// Checks the backbone, and that it supports the conventions.
    pub(super) fn validate(&self, rules: &Conventions, low_level: LowLevel) -> Result<()> {
        let (spec, family) = (self.spec(), self.family());
        let (got, expected) = (rules.multi_grid.len(), spec.grid_units());
        if got != 0 && expected == 0 {
            return Err(error!(Config, "{} has no multi-grid", self.title()));
        }
        if got != 0 && got != expected {
            return Err(error!(
                Config,
                "{} expects a multi-grid of {expected} factors, got {got}",
                self.title()
            ));
        }
        if rules.dilation == DilationRule::AfterGroup && !family.dilates_after_group {
            let rule = "the dilation rule `after_group`";
            return Err(self.unsupported(rule, |family| family.dilates_after_group));
        }
        spec.validate()?;
        let before_expansion = matches!(rules.padding, PaddingRule::BeforeExpansion { .. });
        if before_expansion && !family.pads_before_expansion {
            let rule = "the padding rule `before_expansion`";
            return Err(self.unsupported(rule, |family| family.pads_before_expansion));
        }
        if low_level == LowLevel::InsideUnit && !family.low_level_inside_unit {
            return Err(error!(
                Config,
                "{} does not support `tensor_flow` low-level features",
                self.title()
            ));
        }
        Ok(())
    }

    /// Error for a rule that only some families support.
    fn unsupported(&self, rule: &str, supports: fn(&Family) -> bool) -> Error {
        let families = Self::families().filter(|family| supports(family));
        let titles: Vec<&str> = families.map(|family| family.title).collect();
        let (titles, title) = (titles.join(" or "), self.title());
        error!(Config, "{rule} requires {titles}, the backbone is {title}")
    }

    pub(super) fn build(
        &self,
        b: &mut Builder,
        scope: &mut Scope,
        x: ValueId,
        tap: LowLevel,
    ) -> Result<Features> {
        self.spec().build(b, scope, x, tap)
    }
}

#[cfg(test)]
mod tests {
    use super::Backbone;

    #[test]
    fn every_name_is_a_backbone_and_others_are_refused_with_the_list() {
        for family in Backbone::families() {
            for name in family.names {
                let backbone = Backbone::named(name).unwrap();
                assert_eq!(backbone.family(), family, "{name}");
            }
            let first = Backbone::named(family.names[0]).unwrap();
            assert!(first.title().starts_with(family.title), "{}", family.title);
        }
        for name in Backbone::names() {
            let title = Backbone::named(name).unwrap().title().to_lowercase().replace('-', "");
            assert!(title.starts_with(&name.replace('_', "")[..6]), "{name}: {title}");
        }
        assert_ne!(
            Backbone::named("mobilenet_v2_0.5").unwrap(),
            Backbone::named("mobilenet_v2").unwrap()
        );
        for name in
            ["", "resnet", "resnet51", "xception", "mobilenet_v2_0", "mobilenet_v2_nan", "vgg16"]
        {
            let error = Backbone::named(name).unwrap_err().to_string();
            assert!(Backbone::names().all(|known| error.contains(known)), "{name}: {error}");
        }
    }
}
