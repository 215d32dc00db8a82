//! The names of the families.

use super::*;
use serde::{Deserialize, Serialize};

/// Declares [`ModelType`] from lines of a variant, its name in config.json and recipes, its family and what it is.
macro_rules! families {
    ($($(#[$attribute:meta])* $variant:ident, $name:literal, $family:expr;)*) => {
        /// The families, with the names that config.json and recipes have for them.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum ModelType {
            $($(#[$attribute])* #[serde(rename = $name)] $variant,)*
        }

        impl ModelType {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What is particular to it.
            pub(super) fn family(self) -> &'static dyn Family {
                match self {
                    $(Self::$variant => &$family,)*
                }
            }
        }
    };
}

families! {
    /// Llama, and what is built like it.
    #[default]
    Llama, "llama", llama::Llama;
    /// Cohere's Command R.
    Cohere, "cohere", cohere::Cohere;
    /// Cohere's Command R7B and Command A.
    Cohere2, "cohere2", cohere2::Cohere2;
    /// EXAONE 4.
    Exaone4, "exaone4", exaone4::Exaone4;
    /// Falcon with rotary positions.
    Falcon, "falcon", falcon::Falcon;
    /// Gemma.
    Gemma, "gemma", gemma::Gemma;
    /// Gemma 2.
    Gemma2, "gemma2", gemma2::Gemma2;
    /// The language model of Gemma 3.
    Gemma3, "gemma3_text", gemma3::Gemma3;
    /// The language model of Gemma 4, where it is dense.
    Gemma4, "gemma4_text", gemma4::Gemma4;
    /// GLM-4 (0414).
    Glm4, "glm4", glm4::Glm4;
    /// GPT-2.
    Gpt2, "gpt2", gpt2::Gpt2;
    /// GPT-NeoX and Pythia.
    GptNeox, "gpt_neox", gpt_neox::GptNeox;
    /// gpt-oss.
    GptOss, "gpt_oss", gpt_oss::GptOss;
    /// Granite 3.
    Granite, "granite", granite::Granite;
    /// Granite 3 with mixtures of experts.
    GraniteMoe, "granitemoe", granitemoe::GraniteMoe;
    /// LFM2.
    Lfm2, "lfm2", lfm2::Lfm2;
    /// The language model of Ministral 3.
    Ministral3, "ministral3", ministral3::Ministral3;
    /// Mistral: Llama whose attention sees a window.
    Mistral, "mistral", mistral::Mistral;
    /// Mixtral.
    Mixtral, "mixtral", mixtral::Mixtral;
    /// OLMo.
    Olmo, "olmo", olmo::Olmo;
    /// OLMo 2.
    Olmo2, "olmo2", olmo2::Olmo2;
    /// OLMo 3.
    Olmo3, "olmo3", olmo3::Olmo3;
    /// OPT.
    Opt, "opt", opt::Opt;
    /// Phi-1, Phi-1.5 and Phi-2.
    Phi, "phi", phi::Phi;
    /// Phi-3, Phi-3.5 and Phi-4.
    Phi3, "phi3", phi3::Phi3;
    /// Qwen2 and Qwen2.5: Llama with biases of queries, keys and values.
    Qwen2, "qwen2", qwen2::Qwen2;
    /// Qwen3: Llama with norms of each head's queries and keys.
    Qwen3, "qwen3", qwen3::Qwen3;
    /// Qwen3 with mixtures of experts.
    Qwen3Moe, "qwen3_moe", qwen3_moe::Qwen3Moe;
    /// The language model of Qwen3.5, where it is dense.
    Qwen35, "qwen3_5_text", qwen3_5::Qwen35;
    /// SmolLM3.
    SmolLm3, "smollm3", smollm3::SmolLm3;
    /// StableLM.
    StableLm, "stablelm", stablelm::StableLm;
    /// StarCoder2.
    Starcoder2, "starcoder2", starcoder2::Starcoder2;
}
