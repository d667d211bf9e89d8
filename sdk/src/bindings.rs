//! The code that `wit-bindgen` generates from the contracts; the SDK has it nowhere else.
//!
//! Imports and shared types are generated once. Each interface that a plugin may export gets a world of its own,
//! so that a component exports exactly the contracts that its author chose; `wit-component` merges the worlds
//! again when the component is linked.

/// The imports, and the types that all contracts share.
pub mod host {
    wit_bindgen::generate!({
        path: "../wit/0.1.0",
        inline: "
            package witgate:sdk-imports;
            world everything {
                include witgate:plugin/imports@0.1.0;
                import witgate:plugin/types@0.1.0;
            }
        ",
        world: "witgate:sdk-imports/everything",
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq, Clone],
    });
}

/// What a component that exports `lifecycle` implements.
pub mod lifecycle {
    wit_bindgen::generate!({
        path: "../wit/0.1.0",
        inline: "package witgate:sdk-lifecycle; world lifecycle-exports { export witgate:plugin/lifecycle@0.1.0; }",
        world: "witgate:sdk-lifecycle/lifecycle-exports",
        with: { "witgate:plugin/types@0.1.0": crate::bindings::host::witgate::plugin::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_lifecycle",
        runtime_path: "::witgate_sdk::__private::runtime",
        additional_derives: [PartialEq, Clone],
    });
}

/// What a component that exports `authentication` implements.
pub mod authentication {
    wit_bindgen::generate!({
        path: "../wit/0.1.0",
        inline: "package witgate:sdk-authentication; world authentication-exports { export witgate:plugin/authentication@0.1.0; }",
        world: "witgate:sdk-authentication/authentication-exports",
        with: { "witgate:plugin/types@0.1.0": crate::bindings::host::witgate::plugin::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_authentication",
        runtime_path: "::witgate_sdk::__private::runtime",
        additional_derives: [PartialEq, Clone],
    });
}

/// What a component that exports `rate-limiting` implements.
pub mod rate_limiting {
    wit_bindgen::generate!({
        path: "../wit/0.1.0",
        inline: "package witgate:sdk-rate-limiting; world rate-limiting-exports { export witgate:plugin/rate-limiting@0.1.0; }",
        world: "witgate:sdk-rate-limiting/rate-limiting-exports",
        with: { "witgate:plugin/types@0.1.0": crate::bindings::host::witgate::plugin::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_rate_limiting",
        runtime_path: "::witgate_sdk::__private::runtime",
        additional_derives: [PartialEq, Clone],
    });
}

/// What a component that exports `routing` implements.
pub mod routing {
    wit_bindgen::generate!({
        path: "../wit/0.1.0",
        inline: "package witgate:sdk-routing; world routing-exports { export witgate:plugin/routing@0.1.0; }",
        world: "witgate:sdk-routing/routing-exports",
        with: { "witgate:plugin/types@0.1.0": crate::bindings::host::witgate::plugin::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_routing",
        runtime_path: "::witgate_sdk::__private::runtime",
        additional_derives: [PartialEq, Clone],
    });
}

/// What a component that exports `transformation` implements.
pub mod transformation {
    wit_bindgen::generate!({
        path: "../wit/0.1.0",
        inline: "package witgate:sdk-transformation; world transformation-exports { export witgate:plugin/transformation@0.1.0; }",
        world: "witgate:sdk-transformation/transformation-exports",
        with: { "witgate:plugin/types@0.1.0": crate::bindings::host::witgate::plugin::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_transformation",
        runtime_path: "::witgate_sdk::__private::runtime",
        additional_derives: [PartialEq, Clone],
    });
}

/// The types that the decisions on a body of version 0.2.0 share.
pub mod request_body {
    wit_bindgen::generate!({
        path: ["../wit/0.1.0", "../wit/0.2.0"],
        inline: "package witgate:sdk-request-body; world request-body-types { import witgate:plugin/request-body@0.2.0; }",
        world: "witgate:sdk-request-body/request-body-types",
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq, Clone],
    });
    pub use witgate::plugin0_2_0::request_body::{Content, Extent, Form, Reading};
}

/// What a component that exports `gate` implements.
pub mod gate {
    wit_bindgen::generate!({
        path: ["../wit/0.1.0", "../wit/0.2.0"],
        inline: "package witgate:sdk-gate; world gate-exports { export witgate:plugin/gate@0.2.0; }",
        world: "witgate:sdk-gate/gate-exports",
        with: { "witgate:plugin/types@0.1.0": crate::bindings::host::witgate::plugin::types },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_gate",
        runtime_path: "::witgate_sdk::__private::runtime",
        additional_derives: [PartialEq, Clone],
    });
}

/// What a component that exports `authentication-by-body` implements.
pub mod authentication_by_body {
    wit_bindgen::generate!({
        path: ["../wit/0.1.0", "../wit/0.2.0"],
        inline: "package witgate:sdk-authentication-by-body; world authentication-by-body-exports { export witgate:plugin/authentication-by-body@0.2.0; }",
        world: "witgate:sdk-authentication-by-body/authentication-by-body-exports",
        with: {
            "witgate:plugin/types@0.1.0": crate::bindings::host::witgate::plugin::types,
            "witgate:plugin/request-body@0.2.0": crate::bindings::request_body::witgate::plugin0_2_0::request_body,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_authentication_by_body",
        runtime_path: "::witgate_sdk::__private::runtime",
        additional_derives: [PartialEq, Clone],
    });
}

/// What a component that exports `refusal-by-body` implements.
pub mod refusal_by_body {
    wit_bindgen::generate!({
        path: ["../wit/0.1.0", "../wit/0.2.0"],
        inline: "package witgate:sdk-refusal-by-body; world refusal-by-body-exports { export witgate:plugin/refusal-by-body@0.2.0; }",
        world: "witgate:sdk-refusal-by-body/refusal-by-body-exports",
        with: {
            "witgate:plugin/types@0.1.0": crate::bindings::host::witgate::plugin::types,
            "witgate:plugin/request-body@0.2.0": crate::bindings::request_body::witgate::plugin0_2_0::request_body,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_refusal_by_body",
        runtime_path: "::witgate_sdk::__private::runtime",
        additional_derives: [PartialEq, Clone],
    });
}

/// What a component that exports `routing-by-body` implements.
pub mod routing_by_body {
    wit_bindgen::generate!({
        path: ["../wit/0.1.0", "../wit/0.2.0"],
        inline: "package witgate:sdk-routing-by-body; world routing-by-body-exports { export witgate:plugin/routing-by-body@0.2.0; }",
        world: "witgate:sdk-routing-by-body/routing-by-body-exports",
        with: {
            "witgate:plugin/types@0.1.0": crate::bindings::host::witgate::plugin::types,
            "witgate:plugin/request-body@0.2.0": crate::bindings::request_body::witgate::plugin0_2_0::request_body,
        },
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_routing_by_body",
        runtime_path: "::witgate_sdk::__private::runtime",
        additional_derives: [PartialEq, Clone],
    });
}

/// The imports that version 0.2.0 adds.
pub mod additions {
    wit_bindgen::generate!({
        path: ["../wit/0.1.0", "../wit/0.2.0"],
        inline: "
            package witgate:sdk-additions;
            world additions {
                import witgate:plugin/data@0.2.0;
                import witgate:plugin/crypto@0.2.0;
                import witgate:plugin/password@0.2.0;
                import witgate:plugin/store@0.2.0;
                import witgate:plugin/calendar@0.2.0;
                import witgate:plugin/notes@0.2.0;
                import witgate:plugin/span@0.2.0;
                import witgate:plugin/facts@0.2.0;
                import witgate:plugin/response-body@0.2.0;
                import witgate:plugin/ending@0.2.0;
                import witgate:plugin/observed@0.2.0;
                import witgate:plugin/upstream-host@0.2.0;
                import witgate:plugin/settlement@0.2.0;
            }
        ",
        world: "witgate:sdk-additions/additions",
        with: {
            "witgate:plugin/crypto@0.1.0": crate::bindings::host::witgate::plugin::crypto,
            "witgate:plugin/store@0.1.0": crate::bindings::host::witgate::plugin::store,
            "witgate:plugin/types@0.1.0": crate::bindings::host::witgate::plugin::types,
        },
        generate_all,
        additional_derives: [PartialEq, Clone],
    });
}

/// What a component that exports `observe` implements.
pub mod observe {
    wit_bindgen::generate!({
        path: ["../wit/0.1.0", "../wit/0.2.0"],
        inline: "package witgate:sdk-observe; world observe-exports { export witgate:plugin/observe@0.2.0; }",
        world: "witgate:sdk-observe/observe-exports",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_observe",
        runtime_path: "::witgate_sdk::__private::runtime",
        additional_derives: [PartialEq, Clone],
    });
}

/// What a component that exports `tick` implements.
pub mod tick {
    wit_bindgen::generate!({
        path: ["../wit/0.1.0", "../wit/0.2.0"],
        inline: "package witgate:sdk-tick; world tick-exports { export witgate:plugin/tick@0.2.0; }",
        world: "witgate:sdk-tick/tick-exports",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_tick",
        runtime_path: "::witgate_sdk::__private::runtime",
    });
}
