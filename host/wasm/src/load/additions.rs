//! What a plugin declares in the interfaces of version 0.2.0, each of which has a function for that.

use witgate_config::model::Budget;
use witgate_exchange::contracts::{BodyForm, Extent, Function, Input, Interest, Reading};

use super::{SETUP, failed, misdeclared, named_inputs};
use crate::bindings::draft::witgate::plugin0_2_0::request_body;
use crate::instance::{Instance, Template};
use crate::refusal::Refusal;

/// Asks a configured instance what its gate and its decisions on a body look at, and adds it to the interest.
pub(super) fn declare(
    template: &Template,
    instance: &mut Instance,
    interest: &mut Interest,
    budget: &Budget,
) -> Result<(), Refusal> {
    if let Some(gate) = instance.exports.gate.clone() {
        let (inputs,) = template
            .declare(instance, gate.func_admits_by(), SETUP)
            .map_err(|error| failed("`admits-by` failed", &error, budget))?;
        interest.pure[Function::Admit as usize] =
            inputs.map(|inputs| named_inputs(&inputs, Function::Admit.as_str())).transpose()?;
        if interest.inputs(Function::Admit).is_some_and(|inputs| inputs.contains(&Input::Identity)) {
            return misdeclared(
                "it names `identity` as an input of `admit`, which runs before authentication".into(),
            );
        }
    }
    if let Some(contract) = instance.exports.authentication_by_body.clone() {
        let answer = template.declare(instance, contract.func_reads(), SETUP);
        interest.authenticates_by_body = Some(reading(answer, "authentication-by-body", budget)?);
    }
    if let Some(contract) = instance.exports.refusal_by_body.clone() {
        let answer = template.declare(instance, contract.func_reads(), SETUP);
        interest.refuses_by_body = Some(reading(answer, "refusal-by-body", budget)?);
    }
    if let Some(contract) = instance.exports.routing_by_body.clone() {
        let answer = template.declare(instance, contract.func_reads(), SETUP);
        interest.routes_by_body = Some(reading(answer, "routing-by-body", budget)?);
    }
    Ok(())
}

/// The reading that a contract declares, within the `body_limit` of the binding.
fn reading(
    answer: wasmtime::Result<(request_body::Reading,)>,
    contract: &str,
    budget: &Budget,
) -> Result<Reading, Refusal> {
    let (declared,) =
        answer.map_err(|error| failed(&format!("`reads` of {contract} failed"), &error, budget))?;
    let form = match declared.form {
        request_body::Form::Raw => BodyForm::Raw,
        request_body::Form::Decoded => BodyForm::Decoded,
    };
    let limit = budget.body_limit;
    let bytes = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
    let extent = match declared.extent {
        request_body::Extent::Whole(most) => Extent::Whole(bytes(most).min(limit)),
        request_body::Extent::Peek(first) if bytes(first) > limit => {
            return misdeclared(format!(
                "{contract} reads the first {first} bytes of a body, and the `body_limit` of the binding is {limit}"
            ));
        }
        request_body::Extent::Peek(first) => Extent::Peek(bytes(first)),
    };
    Ok(Reading { form, extent })
}
