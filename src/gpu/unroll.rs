//! `@unroll for (var i = 0u; i < COUNT; i++) { .. }` in a shader becomes `COUNT` blocks, in each of
//! which `i` is a constant.
//!
//! Drivers may or may not unroll loops. Register tiles require it: an array that is indexed by a
//! variable is placed in memory, and `subgroupBroadcast` requires a constant lane. `COUNT` is a
//! literal or one of the variant's constants.

use crate::error::{Result, error};
use crate::ops::kernel::{Constant, ShaderVariant};
use wesl::syntax::{
    Attribute, BinaryOperator, CompoundStatement, Declaration, DeclarationKind, Expression,
    ForStatement, GlobalDeclaration, LiteralExpression, Statement, StatementNode, TranslationUnit,
};

/// Unrolls every marked loop of a compiled shader.
pub(super) fn unroll(unit: &mut TranslationUnit, variant: &ShaderVariant) -> Result<()> {
    for declaration in &mut unit.global_declarations {
        if let GlobalDeclaration::Function(function) = declaration.node_mut() {
            in_block(&mut function.body, variant)?;
        }
    }
    Ok(())
}

fn in_block(block: &mut CompoundStatement, variant: &ShaderVariant) -> Result<()> {
    let mut statements = Vec::with_capacity(block.statements.len());
    for mut node in std::mem::take(&mut block.statements) {
        match node.node_mut() {
            Statement::Compound(inner) => in_block(inner, variant)?,
            Statement::If(branch) => {
                in_block(&mut branch.if_clause.body, variant)?;
                for clause in &mut branch.else_if_clauses {
                    in_block(&mut clause.body, variant)?;
                }
                if let Some(clause) = &mut branch.else_clause {
                    in_block(&mut clause.body, variant)?;
                }
            }
            Statement::Switch(switch) => {
                for clause in &mut switch.clauses {
                    in_block(&mut clause.body, variant)?;
                }
            }
            Statement::Loop(inner) => in_block(&mut inner.body, variant)?,
            Statement::While(inner) => in_block(&mut inner.body, variant)?,
            Statement::For(inner) => {
                in_block(&mut inner.body, variant)?;
                if is_marked(inner) {
                    statements.extend(copies(inner, variant)?);
                    continue;
                }
            }
            _ => {}
        }
        statements.push(node);
    }
    block.statements = statements;
    Ok(())
}

fn is_marked(node: &ForStatement) -> bool {
    node.attributes
        .iter()
        .any(|a| matches!(a.node(), Attribute::Custom(custom) if custom.name == "unroll"))
}

fn copies(node: &ForStatement, variant: &ShaderVariant) -> Result<Vec<StatementNode>> {
    let (counter, count) = header(node, variant).ok_or_else(|| {
        error!(Shader, "`@unroll` requires `for (var i = 0u; i < COUNT; i++)` with a literal or an injected constant, got `{node}`")
            .at(format!("shader {variant}"))
    })?;
    if node.body.statements.iter().any(|s| leaves(s.node())) {
        return Err(error!(Shader, "an unrolled loop cannot be left by `break` or `continue`")
            .at(format!("shader {variant}")));
    }
    let copy = |i: u32| {
        let constant = Declaration {
            attributes: Vec::new(),
            kind: DeclarationKind::Const,
            ident: counter.ident.clone(),
            ty: None,
            initializer: Some(Expression::Literal(LiteralExpression::U32(i)).into()),
        };
        let mut body = node.body.clone();
        body.statements.insert(0, Statement::Declaration(constant).into());
        Statement::Compound(body).into()
    };
    Ok((0..count).map(copy).collect())
}

/// Returns the counter and the number of iterations of a loop.
fn header<'a>(node: &'a ForStatement, variant: &ShaderVariant) -> Option<(&'a Declaration, u32)> {
    let Statement::Declaration(counter) = node.initializer.as_ref()?.node() else { return None };
    let is_counter = |e: &Expression| matches!(e, Expression::TypeOrIdentifier(t) if *t.ident.name() == *counter.ident.name());
    let from_zero = matches!(
        counter.initializer.as_ref()?.node(),
        Expression::Literal(LiteralExpression::U32(0))
    );
    let Statement::Increment(update) = node.update.as_ref()?.node() else { return None };
    let Expression::Binary(condition) = node.condition.as_ref()?.node() else { return None };
    if !from_zero || !is_counter(update.expression.node()) || !is_counter(condition.left.node()) {
        return None;
    }
    if condition.operator != BinaryOperator::LessThan {
        return None;
    }
    let count = match condition.right.node() {
        Expression::Literal(LiteralExpression::U32(count)) => *count,
        Expression::TypeOrIdentifier(t) => {
            match variant.constants.iter().find(|(name, _)| *name == *t.ident.name())?.1 {
                Constant::U32(count) => count,
                Constant::F32(_) => return None,
            }
        }
        _ => return None,
    };
    Some((counter, count))
}

/// Returns whether a statement leaves the enclosing loop.
fn leaves(statement: &Statement) -> bool {
    let any = |block: &CompoundStatement| block.statements.iter().any(|s| leaves(s.node()));
    match statement {
        Statement::Break(_) | Statement::Continue(_) => true,
        Statement::Compound(block) => any(block),
        Statement::If(branch) => {
            any(&branch.if_clause.body)
                || branch.else_if_clauses.iter().any(|c| any(&c.body))
                || branch.else_clause.as_ref().is_some_and(|c| any(&c.body))
        }
        // `break` in a switch or an inner loop does not leave the enclosing loop.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unrolled(text: &str) -> Result<String> {
        let variant = ShaderVariant {
            shader: "test",
            source: None,
            features: Vec::new(),
            constants: vec![("COUNT", 2u32.into())],
        };
        let mut unit: TranslationUnit = text.parse().expect("test text is WGSL");
        unroll(&mut unit, &variant)?;
        Ok(unit.to_string())
    }

    #[test]
    fn marked_loops_become_blocks_with_a_constant() {
        let text = "fn f() { @unroll for (var i = 0u; i < COUNT; i++) { @unroll for (var j = 0u; j < 3u; j++) { a[i * 3u + j] += 1f; } } }";
        let text = unrolled(text).unwrap();
        assert!(!text.contains("for"), "{text}");
        assert_eq!(text.matches("+= 1").count(), 6, "{text}");
        assert_eq!(text.matches("const j = 2u").count(), 2, "{text}");
        let plain = "fn f() { for (var i = 0u; i < COUNT; i++) { a[i] += 1f; } }";
        assert!(unrolled(plain).unwrap().contains("for"));
    }

    #[test]
    fn loops_that_cannot_be_unrolled_are_refused() {
        for text in [
            "fn f() { @unroll for (var i = 0u; i < n; i++) { } }",
            "fn f() { @unroll for (var i = 1u; i < COUNT; i++) { } }",
            "fn f() { @unroll for (var i = 0u; i < COUNT; i++) { if a { continue; } } }",
        ] {
            let error = unrolled(text).unwrap_err().to_string();
            assert!(error.contains("unroll"), "{error}");
        }
    }
}
