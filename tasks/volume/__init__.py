"""3D CT: volumes aligned with reports, disease supervision by prompts, and snippets found along the patient."""
