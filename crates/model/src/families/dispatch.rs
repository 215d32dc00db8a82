//! Models of all families as one type: an enum, so that calls in a loop are not virtual.

/// Defines [`Model`](super::Model) and [`ModelConfig`](super::ModelConfig) from a table of families.
macro_rules! families {
    ($($(#[$doc:meta])* $family:ident, $model_type:literal, $model:ty, $config:ty;)+) => {
        /// A model of any family.
        ///
        /// As a module it is transparent: parameters have the same paths as in the family's model, and checkpoints the
        /// same bytes.
        #[derive(Clone, Debug)]
        pub enum Model {
            $($(#[$doc])* $family($model),)+
        }

        /// The config of any family.
        ///
        /// In a recipe it is a table of the family's keys and `model_type`, which may be left out for the first of
        /// [`MODEL_TYPES`](Self::MODEL_TYPES); unknown keys are errors.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ModelConfig {
            $($(#[$doc])* $family($config),)+
        }

        $(impl From<$config> for ModelConfig {
            fn from(config: $config) -> Self {
                Self::$family(config)
            }
        })+

        impl ModelConfig {
            /// The names of the families in config.json.
            pub const MODEL_TYPES: &'static [&'static str] = &[$($model_type),+];

            /// The family's name in config.json.
            pub fn model_type(&self) -> &'static str {
                match self {
                    $(Self::$family(_) => $model_type,)+
                }
            }

            /// The interface that all families share.
            pub fn family(&self) -> &dyn $crate::families::FamilyConfig {
                match self {
                    $(Self::$family(config) => config,)+
                }
            }

            fn family_mut(&mut self) -> &mut dyn $crate::families::FamilyConfig {
                match self {
                    $(Self::$family(config) => config,)+
                }
            }

            fn architecture(&self) -> &'static str {
                match self {
                    $(Self::$family(_) => <$config as $crate::families::family::Family>::ARCHITECTURE,)+
                }
            }

            /// Parses a family's own keys; returns `None` if no family has this name.
            fn from_keys<'de, A: serde::de::MapAccess<'de>>(
                model_type: &str,
                keys: A,
            ) -> Option<Result<Self, A::Error>> {
                let keys = serde::de::value::MapAccessDeserializer::new(keys);
                match model_type {
                    $($model_type => {
                        Some(<$config as serde::Deserialize>::deserialize(keys).map(Self::$family))
                    })+
                    _ => None,
                }
            }

            /// The examples of every family.
            #[cfg(test)]
            fn examples() -> Vec<Self> {
                let of_families = [$(
                    <$config as $crate::families::family::Family>::examples().into_iter().map(Self::$family).collect(),
                )+];
                of_families.into_iter().flat_map(|of_family: Vec<Self>| of_family).collect()
            }

            /// Parses config.json; returns `None` if no family has this name.
            fn from_hf(
                model_type: &str,
                all: &serde_json::Map<String, serde_json::Value>,
            ) -> Option<Result<Self, String>> {
                match model_type {
                    $($model_type => {
                        Some(<$config as $crate::families::family::Family>::from_hf(all).map(Self::$family))
                    })+
                    _ => None,
                }
            }

            /// Creates a model whose parameters come from the builder.
            fn build_from<E>(
                &self,
                parameters: &mut $crate::parameters::ParameterBuilder<'_, E>,
            ) -> Result<Model, E> {
                use $crate::families::family::Family;
                match self {
                    $(Self::$family(config) => config.build(parameters).map(Model::$family),)+
                }
            }
        }

        impl serde::Serialize for ModelConfig {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$family(config) => {
                        $crate::families::model_config::serialize($model_type, config, serializer)
                    })+
                }
            }
        }

        impl Model {
            /// The shape of the model.
            pub fn config(&self) -> ModelConfig {
                match self {
                    $(Self::$family(model) => ModelConfig::$family(model.config().clone()),)+
                }
            }
        }

        any_model! { $($family)+ }
    };
}

/// Delegates methods of a [`Model`](super::Model) to the family's model.
macro_rules! any_model {
    ($($family:ident)+) => {
        impl burn::module::Module for Model {
            fn collect_devices(&self, devices: burn::module::Devices) -> burn::module::Devices {
                match self {
                    $(Self::$family(model) => model.collect_devices(devices),)+
                }
            }

            fn fork(self, device: &burn::tensor::Device) -> Self {
                match self {
                    $(Self::$family(model) => Self::$family(model.fork(device)),)+
                }
            }

            fn to_device(self, device: &burn::tensor::Device) -> Self {
                match self {
                    $(Self::$family(model) => Self::$family(model.to_device(device)),)+
                }
            }

            fn train(self) -> Self {
                match self {
                    $(Self::$family(model) => Self::$family(model.train()),)+
                }
            }

            fn valid(&self) -> Self {
                match self {
                    $(Self::$family(model) => Self::$family(model.valid()),)+
                }
            }

            fn materialize(self) -> Self {
                match self {
                    $(Self::$family(model) => Self::$family(model.materialize()),)+
                }
            }

            // burn's derive would add the variant's name to every parameter's path.
            fn visit<Visitor: burn::module::ModuleVisitor>(&self, visitor: &mut Visitor) {
                match self {
                    $(Self::$family(model) => model.visit(visitor),)+
                }
            }

            fn map<Mapper: burn::module::ModuleMapper>(self, mapper: &mut Mapper) -> Self {
                match self {
                    $(Self::$family(model) => Self::$family(model.map(mapper)),)+
                }
            }
        }

        impl $crate::CausalLm for Model {
            fn hidden(
                &self,
                tokens: burn::tensor::Tensor<2, burn::tensor::Int>,
                sequences: &$crate::Sequences,
            ) -> burn::tensor::Tensor<3> {
                match self {
                    $(Self::$family(model) => model.hidden(tokens, sequences),)+
                }
            }

            fn hidden_at(
                &self,
                tokens: burn::tensor::Tensor<2, burn::tensor::Int>,
                sequences: &$crate::Sequences,
                positions: burn::tensor::Tensor<1, burn::tensor::Int>,
            ) -> burn::tensor::Tensor<2> {
                match self {
                    $(Self::$family(model) => model.hidden_at(tokens, sequences, positions),)+
                }
            }

            fn step(
                &self,
                tokens: burn::tensor::Tensor<1, burn::tensor::Int>,
                cache: &mut $crate::KvCache,
            ) -> burn::tensor::Tensor<2> {
                match self {
                    $(Self::$family(model) => model.step(tokens, cache),)+
                }
            }

            fn head(&self) -> $crate::HeadParameter<'_> {
                match self {
                    $(Self::$family(model) => model.head(),)+
                }
            }

            fn named_parameters(&self) -> Vec<(String, $crate::StoredParameter<'_>)> {
                match self {
                    $(Self::$family(model) => model.named_parameters(),)+
                }
            }

            fn no_decay(&self) -> burn::module::ParamGroup {
                match self {
                    $(Self::$family(model) => model.no_decay(),)+
                }
            }

            fn vocab_size(&self) -> usize {
                match self {
                    $(Self::$family(model) => model.vocab_size(),)+
                }
            }

            fn logits_chunk(&self) -> usize {
                match self {
                    $(Self::$family(model) => model.logits_chunk(),)+
                }
            }
        }
    };
}
