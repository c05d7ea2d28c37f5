"""Fine-tuning in the shapes of OpenAI's API, so that its clients and scripts work: one more door over the services.

Shapes: https://platform.openai.com/docs/api-reference/fine-tuning
"""
